"""`Group` of the model: one member's view of one group."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from hashlib import blake2b, shake_256
from typing import TYPE_CHECKING, Final

import mls_rs
import msgspec

from simulation.model_mls import sizes, wire
from simulation.model_mls.changes import Step, leaf_at, member, members, step
from simulation.model_mls.epochs import Epoch
from simulation.model_mls.pending import Base, Detached, PendingCommit
from simulation.model_mls.stored import State, What, epoch_row
from simulation.model_mls.values import Change, Commit, LogEntry, Member, Message, fault
from simulation.model_mls.wire import Application, CommitContent, Extensions, GroupInfo, Tree

if TYPE_CHECKING:
    from simulation.model_mls.client import Client

EPOCHS_IN_MEMORY: Final = 16
SKIP_LIMIT: Final = 1 << 20
EXPORT_LIMIT: Final = 255 * 32
ENTROPY: Final = 32
GENERATIONS: Final = 1 << 32


class Group:
    """Every part is a value that is replaced and never changed, so that a clone costs nothing and
    what fails leaves no trace."""

    def __init__(
        self,
        client: Client,
        group_id: bytes,
        suite: int,
        extensions: Extensions,
        tree: Tree,
        epoch: Epoch,
        *,
        inviter: int | None = None,
        key_package: bytes | None = None,
    ) -> None:
        self._client = client
        self.group_id = group_id
        self.suite = suite
        self.active = True
        self.inviter_index = inviter
        self.dropped_keys = 0
        self._extensions = extensions
        self._tree = tree
        self._epoch = epoch
        self._next_generation = 0
        self._prior: dict[int, Epoch] = {}
        self._inserts: tuple[int, ...] = ()  # prior epochs that no row has yet
        self._updates: frozenset[int] = frozenset()  # and those whose row is older
        self._key_package = key_package  # deleted by the first save
        self._stored_tree: bytes | None = None  # hash of the tree that was written, or loaded
        self._encoded: tuple[bytes, bytes] | None = None  # the tree, and its hash
        self._leaves: dict[bytes, int] | None = None  # by signature key

    @classmethod
    def load(cls, client: Client, group_id: bytes, state: State, tree: bytes) -> Group:
        """Raises BlobError."""
        try:
            leaves = wire.decode_tree(tree)
        except mls_rs.DecodeError as error:
            raise fault(mls_rs.BlobError, "layout") from error
        group = cls(client, group_id, state.suite, state.extensions, leaves, state.epoch)
        group.active = state.active
        group.dropped_keys = state.dropped_keys
        group._next_generation = state.next_generation
        group._stored_tree = group.tree_hash
        if group.tree_hash != state.tree_hash:
            raise fault(mls_rs.BlobError, "other-tree")
        own = leaf_at(leaves, group.own_index)
        if own is None or not client.owns(own):
            raise fault(mls_rs.BlobError, "other-client")
        return group

    def with_epochs(self, epochs: Sequence[Epoch]) -> Group:
        """The newest that fit into memory."""
        newest = sorted(epochs, key=lambda epoch: epoch.number)[-EPOCHS_IN_MEMORY:]
        self._prior = {epoch.number: epoch for epoch in newest}
        return self

    # --- what it is

    @property
    def epoch(self) -> int:
        return self._epoch.number

    @property
    def own_index(self) -> int:
        return self._epoch.own_index

    @property
    def epoch_authenticator(self) -> bytes:
        return blake2b(b"authenticator", key=self._epoch.secret, digest_size=32).digest()

    @property
    def tree_hash(self) -> bytes:
        return self._tree_and_hash()[1]

    @property
    def skipped_keys(self) -> int:
        return self._epoch.skipped + sum(epoch.skipped for epoch in self._prior.values())

    def ratchet_tree(self) -> bytes:
        return self._tree_and_hash()[0]

    def _tree_and_hash(self) -> tuple[bytes, bytes]:
        if self._encoded is None:
            encoded = wire.encode_tree(self._tree)
            self._encoded = encoded, wire.tree_hash(encoded)
        return self._encoded

    def roster(self) -> list[Member]:
        return members(self._tree)

    def find_member(self, signature_key: bytes) -> Member | None:
        if self._leaves is None:
            self._leaves = {leaf.signature_key: i for i, leaf in enumerate(self._tree) if leaf}
        index = self._leaves.get(signature_key)
        leaf = None if index is None else self._tree[index]
        return None if index is None or leaf is None else member(index, leaf)

    def find_members(self, credential: bytes) -> list[Member]:
        return [found for found in self.roster() if found.credential == credential]

    def extension(self, extension_type: int) -> bytes | None:
        return dict(self._extensions).get(extension_type)

    def export_secret(self, label: bytes, context: bytes, length: int) -> bytes:
        if not 1 <= length <= EXPORT_LIMIT:
            raise ValueError(f"length must be 1 to {EXPORT_LIMIT}")
        self._live()
        bound = msgspec.msgpack.encode((self._epoch.secret, label, context))
        return shake_256(bound).digest(length)

    def _live(self) -> None:
        if not self.active:
            raise fault(mls_rs.NotActive, "not-active")

    # --- sending

    @property
    def next_generation(self) -> int:
        self._live()
        return self._next_generation

    def skip_to_generation(self, generation: int) -> None:
        if not 0 <= generation < GENERATIONS:
            raise OverflowError("a generation has 32 bits")
        ahead = generation - self.next_generation
        if ahead < 0:
            raise fault(mls_rs.KeyUnavailable, "generation-used")
        if ahead > SKIP_LIMIT:
            raise fault(mls_rs.KeyUnavailable, "generation-too-far")
        self._next_generation = generation

    def encrypt(self, plaintext: bytes, authenticated_data: bytes = b"") -> bytes:
        generation = self.next_generation
        self._next_generation += 1
        epoch = self._epoch
        content = Application(
            self.group_id,
            epoch.number,
            epoch.own_index,
            generation,
            authenticated_data,
            plaintext,
            sizes.padding(plaintext),
        )
        return wire.frame(wire.APPLICATION, content, epoch.secret)

    # --- changing

    def commit(
        self,
        *,
        add: Sequence[bytes] = (),
        remove: Sequence[int] = (),
        extensions: Sequence[tuple[int, bytes]] | None = None,
        psk: Sequence[bytes] = (),
        authenticated_data: bytes = b"",
        tree_in_welcome: bool = True,
        now: int,
    ) -> PendingCommit:
        self._live()
        if psk:
            raise NotImplementedError("the model has no pre-shared keys")
        if extensions is not None and len(dict(extensions)) < len(extensions):
            raise ValueError("an extension type twice")
        for index in remove:
            if leaf_at(self._tree, index) is None:
                raise fault(mls_rs.NoSuchMember, "no-such-member", f"leaf {index}")
        content = CommitContent(
            self.group_id,
            self.epoch,
            self.own_index,
            self._client.random(ENTROPY),
            sizes.path(self.suite, len(self._tree)),
            tuple(add),
            tuple(remove),
            None if extensions is None else tuple(extensions),
            authenticated_data,
        )
        after = self._checked(content)
        for package in map(wire.package, add):
            if not package.not_before <= now <= package.not_after:
                raise fault(mls_rs.InvalidCommit, "key-package-lifetime")
        message = wire.frame(wire.COMMIT, content, self._epoch.secret)
        welcome = tree = None
        if add:
            encoded = wire.encode_tree(after.tree)
            info = GroupInfo(
                references=tuple(map(wire.reference, add)),
                group_id=self.group_id,
                suite=self.suite,
                epoch=after.effect.epoch,
                secret=self._secret_after(message),
                extensions=after.extensions,
                signer=self.own_index,
                tree_hash=wire.tree_hash(encoded),
                tree=encoded if tree_in_welcome else None,
                secrets=sizes.secrets(self.suite, len(add)),
            )
            welcome = wire.frame(wire.WELCOME, info)
            tree = None if tree_in_welcome else encoded
        return PendingCommit(self._client.sealer, Detached(self._base(), message, welcome, tree))

    def apply(self, pending: PendingCommit) -> Commit:
        self._live()
        if pending.detached.base != self._base():
            raise fault(mls_rs.StaleCommit, "stale-commit")
        content = wire.commit(wire.unframe(pending.message)[1])
        after = step(self.suite, self._tree, self._extensions, content, self.own_index)
        self._authorize(after)
        return self._enter(after, pending.message)

    def _base(self) -> Base:
        return Base(
            self.group_id,
            self.epoch,
            self.epoch_authenticator,
            self.own_index,
            self._client.signature_key,
        )

    def _checked(self, content: CommitContent) -> Step:
        after = step(self.suite, self._tree, self._extensions, content, self.own_index)
        for found in after.effect.added:
            self._client.validate(found.signature_key, found.credential)
        self._authorize(after)
        return after

    def _authorize(self, after: Step) -> None:
        ask, effect = self._client.authorize_commit, after.effect
        if ask is None:
            return
        change = Change(
            group_id=self.group_id,
            epoch=effect.epoch,
            committer=effect.committer,
            members=self.roster(),
            added=effect.added,
            removed=effect.removed,
            extensions_before=list(self._extensions),
            extensions_after=list(after.extensions),
            authenticated_data=effect.authenticated_data,
        )
        try:
            ask(change)
        except Exception as error:
            raise fault(mls_rs.RefusedByRules, "not-authorized", str(error)) from error

    def _secret_after(self, message: bytes) -> bytes:
        """Of the epoch that a commit opens: another one for each commit, and each parent."""
        return blake2b(message, key=self._epoch.secret, digest_size=32).digest()

    def _enter(self, after: Step, message: bytes) -> Commit:
        if after.effect.removes_me:
            self.active = False
            return after.effect
        left = self._epoch
        keys = tuple(None if leaf is None else leaf.signature_key for leaf in self._tree)
        self._prior = {
            **self._prior,
            left.number: Epoch(left.number, left.secret, left.own_index, keys, left.senders),
        }
        self._inserts = (*self._inserts, left.number)
        self._epoch = Epoch(left.number + 1, self._secret_after(message), left.own_index)
        self._next_generation = 0
        self._tree, self._extensions = after.tree, after.extensions
        self._encoded = self._leaves = None
        return after.effect

    # --- receiving

    def process(self, message: bytes) -> Message | Commit:
        kind, body = wire.unframe(message)
        self._live()
        if kind == wire.APPLICATION:
            return self._open(wire.application(body), message)
        if kind == wire.COMMIT:
            return self._follow(wire.commit(body), message)
        raise fault(mls_rs.DecodeError, "unexpected-message", "not a message inside a group")

    def process_many(self, messages: Sequence[bytes]) -> list[Message | Commit | mls_rs.MlsError]:
        done: list[Message | Commit | mls_rs.MlsError] = []
        for message in messages:
            try:
                done.append(self.process(message))
            except mls_rs.MlsError as error:
                done.append(error)
        return done

    def _follow(self, content: CommitContent, message: bytes) -> Commit:
        self._check_place(content)
        if content.epoch < self.epoch:
            raise fault(mls_rs.EpochTooOld, "epoch-too-old")
        if content.leaf == self.own_index:
            raise fault(mls_rs.OwnMessage, "own-message")
        if not wire.authentic(message, self._epoch.secret):
            raise fault(mls_rs.AuthenticationFailed, "invalid-membership-tag")
        return self._enter(self._checked(content), message)

    def _open(self, content: Application, message: bytes) -> Message:
        self._check_place(content)
        late = content.epoch < self.epoch
        epoch = self._prior.get(content.epoch) if late else self._epoch
        if epoch is None:
            raise fault(mls_rs.EpochTooOld, "epoch-secrets-gone")
        if not wire.authentic(message, epoch.secret):
            raise fault(mls_rs.AuthenticationFailed, "decryption-failed")
        if content.leaf == epoch.own_index:
            raise fault(mls_rs.OwnMessage, "own-message")
        after, dropped = epoch.opened(content.leaf, content.generation, late=late)
        leaf = leaf_at(self._tree, content.leaf)
        if leaf is None or (late and leaf.signature_key != epoch.signature_keys[content.leaf]):
            raise fault(mls_rs.NoSuchMember, "sender-left")
        if late:
            self._prior = {**self._prior, content.epoch: after}
            if content.epoch not in self._inserts:
                self._updates |= {content.epoch}
        else:
            self._epoch = after
            self.dropped_keys += dropped
        return Message(
            member(content.leaf, leaf),
            content.epoch,
            content.plaintext,
            content.authenticated_data,
        )

    def _check_place(self, content: Application | CommitContent) -> None:
        if content.group_id != self.group_id:
            raise fault(mls_rs.WrongGroup, "wrong-group")
        if content.epoch > self.epoch:
            raise fault(mls_rs.EpochInFuture, "epoch-in-future")

    # --- storing

    def clone(self) -> Group:
        return copy.copy(self)

    def save(self, *, tree: bool | None = None) -> None:
        client, group_id = self._client, self.group_id
        encoded, tree_hash = self._tree_and_hash()
        state = State(
            self.suite,
            self._extensions,
            self._epoch,
            self._next_generation,
            self.dropped_keys,
            self.active,
            tree_hash,
        )
        log, seal = client.log, client.sealer.seal
        log.append(LogEntry("state", group_id, None, seal(What.STATE, group_id, b"", state)))
        written = self._stored_tree == tree_hash == client.trees_written.get(group_id)
        if not written if tree is None else tree:
            log.append(LogEntry("tree", group_id, None, seal(What.TREE, group_id, b"", encoded)))
            client.trees_written[group_id] = self._stored_tree = tree_hash
        rows = [("epoch-insert", number) for number in self._inserts]
        rows += [("epoch-update", number) for number in sorted(self._updates)]
        for kind, number in rows:
            blob = seal(What.EPOCH, group_id, epoch_row(number), self._prior[number])
            log.append(LogEntry(kind, group_id, number, blob))
        self._inserts, self._updates = (), frozenset()
        self.with_epochs(list(self._prior.values()))
        if self._key_package is not None:
            client.forget_key_package(self._key_package)

    # --- what the engine does not use

    def group_info(self, *, tree: bool = True) -> bytes:
        raise NotImplementedError("the model has no external commits")
