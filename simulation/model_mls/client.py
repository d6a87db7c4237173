"""`Client` of the model: makes KeyPackages and groups, joins, loads, and hands out the log."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import mls_rs

from identity.keys import device_from_seed
from simulation.model_mls import sizes, wire
from simulation.model_mls.changes import LEAF_KEY, require_support
from simulation.model_mls.epochs import Epoch
from simulation.model_mls.group import Group
from simulation.model_mls.pending import Detached, PendingCommit
from simulation.model_mls.stored import Sealer, State, What, epoch_row
from simulation.model_mls.values import Change, KeyPackage, LogEntry, fault
from simulation.model_mls.wire import Leaf, Package, Tree

CLOCK_LEEWAY_S: Final = 3600
SUITES: Final = (mls_rs.CLASSIC, mls_rs.HYBRID)
LATEST: Final = (1 << 63) - 1
SECRET: Final = 32


class Client:
    def __init__(
        self,
        random: Callable[[int], bytes],
        *,
        signing_seed: bytes,
        credential: bytes,
        storage_key: bytes,
        validate_credential: Callable[[bytes, bytes], None],
        authorize_commit: Callable[[Change], None] | None = None,
        extension_types: Sequence[int] = (),
        policy_extension: int | None = None,
    ) -> None:
        """Takes ids where it asks for bytes; gives out plain bytes, as mls-rs does."""
        if policy_extension is not None:
            raise NotImplementedError("the model has no policies but `authorize_commit`")
        self.random = random
        self.signature_key = bytes(device_from_seed(signing_seed).public)
        self.sealer = Sealer(storage_key)
        self.authorize_commit = authorize_commit
        self.log: list[LogEntry] = []
        self.trees_written: dict[bytes, bytes] = {}  # hash of the last tree, by group
        self._credential = bytes(credential)
        self._validate = validate_credential
        self._extension_types = tuple(extension_types)
        self._packages: dict[bytes, bytes] = {}  # the messages, by reference

    def validate(self, signature_key: bytes, credential: bytes) -> None:
        """Raises CredentialRefused."""
        try:
            self._validate(signature_key, credential)
        except Exception as error:
            raise fault(mls_rs.CredentialRefused, "credential-refused", str(error)) from error

    def owns(self, leaf: Leaf) -> bool:
        return (leaf.signature_key, leaf.credential) == (self.signature_key, self._credential)

    def _new_leaf(self, suite: int) -> Leaf:
        key = self.random(LEAF_KEY).ljust(sizes.OF_SUITE[suite].leaf, b"\0")
        return Leaf(self.signature_key, self._credential, key, self._extension_types)

    # --- KeyPackages

    def key_package(
        self, suite: int, *, now: int, lifetime_s: int, last_resort: bool = False
    ) -> KeyPackage:
        _check_suite(suite)
        if now + lifetime_s > LATEST:
            raise ValueError("the lifetime ends too late")
        package = Package(
            suite,
            self._new_leaf(suite),
            max(0, now - CLOCK_LEEWAY_S),
            now + lifetime_s,
            last_resort,
        )
        message = wire.frame(wire.KEY_PACKAGE, package)
        reference = wire.reference(message)
        self._packages[reference] = message
        blob = self.sealer.seal(What.KEY_PACKAGE, b"", reference, message)
        self.log.append(LogEntry("key-package-insert", None, reference, blob))
        return KeyPackage(message, reference)

    def restore_key_package(self, reference: bytes, blob: bytes) -> None:
        reference = bytes(reference)
        self._packages[reference] = self.sealer.open(What.KEY_PACKAGE, b"", reference, blob, bytes)

    def forget_key_package(self, reference: bytes) -> None:
        """After its Welcome was used, and the group saved."""
        message = self._packages.get(reference)
        if message is not None and not wire.package(message).last_resort:
            del self._packages[reference]
            self.log.append(LogEntry("key-package-delete", None, reference, None))

    # --- groups

    def create_group(
        self, group_id: bytes, suite: int, extensions: Sequence[tuple[int, bytes]] = ()
    ) -> Group:
        _check_suite(suite)
        leaf = self._new_leaf(suite)
        require_support(tuple(extensions), [leaf])
        self.validate(leaf.signature_key, leaf.credential)
        epoch = Epoch(0, self.random(SECRET), 0)
        return Group(self, bytes(group_id), suite, tuple(extensions), (leaf,), epoch)

    def join(self, welcome: bytes, *, tree: bytes | None = None) -> Group:
        info = wire.welcome(welcome)
        reference = next((ours for ours in info.references if ours in self._packages), None)
        if reference is None:
            raise fault(mls_rs.UnknownKeyPackage, "unknown-key-package")
        encoded = tree if info.tree is None else info.tree
        if encoded is None:
            raise fault(mls_rs.InvalidCommit, "ratchet-tree-not-found")
        leaves = wire.decode_tree(encoded)
        if wire.tree_hash(encoded) != info.tree_hash:
            raise fault(mls_rs.InvalidCommit, "tree-hash-mismatch")
        own = wire.package(self._packages[reference]).leaf
        if own not in leaves:
            raise fault(mls_rs.InvalidCommit, "leaf-not-found", "this client is not in the tree")
        self._validate_all(leaves)
        return Group(
            self,
            info.group_id,
            info.suite,
            info.extensions,
            leaves,
            Epoch(info.epoch, info.secret, leaves.index(own)),
            inviter=info.signer,
            key_package=reference,
        )

    def _validate_all(self, leaves: Tree) -> None:
        for leaf in leaves:
            if leaf is not None:
                self.validate(leaf.signature_key, leaf.credential)

    def load_group(
        self, group_id: bytes, state: bytes, tree: bytes, epochs: Sequence[tuple[int, bytes]] = ()
    ) -> Group:
        group_id = bytes(group_id)
        opened = self.sealer.open(What.STATE, group_id, b"", state, State)
        prior = [
            self.sealer.open(What.EPOCH, group_id, epoch_row(number), blob, Epoch)
            for number, blob in epochs
        ]
        encoded = self.sealer.open(What.TREE, group_id, b"", tree, bytes)
        group = Group.load(self, group_id, opened, encoded).with_epochs(prior)
        self.trees_written[group_id] = group.tree_hash
        return group

    def open_pending_commit(self, blob: bytes) -> PendingCommit:
        return PendingCommit(
            self.sealer, self.sealer.open(What.PENDING_COMMIT, b"", b"", blob, Detached)
        )

    def take_log(self) -> list[LogEntry]:
        log, self.log = self.log, []
        return log

    # --- what the engine does not use

    def rejoin(
        self, group_info: bytes, *, tree: bytes | None = None, now: int
    ) -> tuple[Group, bytes]:
        raise NotImplementedError("the model has no external commits")

    def add_psk(self, id: bytes, psk: bytes) -> None:
        raise NotImplementedError("the model has no pre-shared keys")

    remove_psk = add_psk


def _check_suite(suite: int) -> None:
    if suite not in SUITES:
        raise ValueError(f"no cipher suite {suite}")
