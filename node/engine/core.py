"""What every rule of the engine works with: keys, store, MLS client, the time of this batch."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import mls_rs

from identity.credential import issue_credential, verify_credential_untrusted
from identity.envelope import HybridKeyPair
from identity.keys import KeyPair, device_from_seed, identity_from_seed
from node.engine.clock import Clock
from node.engine.groups.authority import authorize_commit, info_of
from node.engine.mls import Library
from node.engine.values import Counted, Effect, Event
from node.store.branches import BranchStore
from node.store.bringers import BringerStore
from node.store.catch_up import CatchUpStore
from node.store.database import Database
from node.store.groups import GroupRow, GroupStore
from node.store.intents import IntentStore
from node.store.key_packages import KeyPackageStore
from node.store.messages import MessageStore
from node.store.outbox import LedgerRow, OutboxStore
from node.store.people import PeopleStore
from node.store.policies import PolicyStore
from node.store.trees import TreeStore
from schemas.errors import Blame, Fault, Refused
from schemas.ids import DeviceKey, EpochId, GroupId, IdentityKey, MessageId
from schemas.messages import GROUP_INFO_EXTENSION, GroupInfo

log = logging.getLogger(__name__)

EPOCH_ID_LABEL = b"quicnprotochat epoch id"
IDENTITY_SEED = "identity_seed"
DEVICE_SEED = "device_seed"
DISCOVERY_SECRET = "discovery_secret"  # noqa: S105 - the name of a row

WRITE_EVERY = 1000  # sends between two writes of a group's state: skipping them takes 1.4 ms
REQUIRED_CAPABILITIES = 3  # RFC 9420 section 17.3

SUITE_NAMES = {mls_rs.HYBRID: "hybrid", mls_rs.CLASSIC: "classic"}


@dataclass
class _Scope:
    """The groups that a block touched; where the store is older, what they were before it."""

    touched: set[GroupId] = field(default_factory=set)
    before: dict[GroupId, tuple[mls_rs.Group, GroupRow]] = field(default_factory=dict)

    def take_in(self, inner: _Scope) -> None:
        """A block inside this one ended well."""
        first = inner.touched - self.touched
        self.before.update({group: inner.before[group] for group in first & inner.before.keys()})
        self.touched |= inner.touched


class GroupDamaged(Fault):
    """What the store has of a group's keys is not what was written."""

    def __init__(self, why: str) -> None:
        super().__init__(
            "group-damaged",
            f"this group's keys on disk are damaged ({why})",
            blame=Blame.ENVIRONMENT,
            hint="ask an admin to invite you again: `invite --again`",
        )


class Core:
    """State shared by the engine's parts. `now` is Unix seconds, set once per batch."""

    def __init__(
        self, database: Database, random: Callable[[int], bytes], library: Library
    ) -> None:
        self.db = database
        self.random = random
        self.library = library
        self.people = PeopleStore(database)
        self.bringers = BringerStore(database)
        self.policies = PolicyStore(database)
        self.groups = GroupStore(database)
        self.messages = MessageStore(database)
        self.outbox = OutboxStore(database)
        self.key_packages = KeyPackageStore(database)
        self.trees = TreeStore(database)
        self.branches = BranchStore(database)
        self.intents = IntentStore(database)
        self.catch_up = CatchUpStore(database)
        self.clock = Clock(self.people)
        self.now = 0.0
        self.started = 0.0  # when this process ran its first batch
        self.effects: list[Effect] = []
        self.linked: set[DeviceKey] = set()
        # Members who know commits that we lack: catch-up asks them at the end of the batch.
        self.ahead: set[tuple[GroupId, DeviceKey]] = set()
        # Members who answered messages that we lack: catch-up asks them a little later.
        self.read_more: set[tuple[GroupId, DeviceKey]] = set()
        # Members with a new leaf, who read nothing that was sealed before: repair seals it again.
        self.renewed: set[tuple[GroupId, DeviceKey]] = set()
        # Messages of ours that a member has no keys for any more: sealed again in a later epoch.
        self.unreadable: set[tuple[GroupId, DeviceKey, MessageId, EpochId]] = set()

        identity_seed = self.people.secret(IDENTITY_SEED)
        device_seed = self.people.secret(DEVICE_SEED)
        if identity_seed is None or device_seed is None:
            raise Refused(
                "no-account",
                "this home has no account yet",
                blame=Blame.CALLER,
                hint="quicnprotochat init --name NAME",
            )
        self.identity: KeyPair[IdentityKey] = identity_from_seed(identity_seed)
        self.device: KeyPair[DeviceKey] = device_from_seed(device_seed)
        self.hybrid_keys: list[HybridKeyPair] = []
        self.load_hybrid_keys()
        self.credential = issue_credential(self.identity, self.device.public)
        self.mls = library.client(
            signing_seed=device_seed,
            credential=self.credential,
            storage_key=self.device.derive(b"mls state"),
            validate_credential=_validate,
            authorize_commit=authorize_commit,
            extension_types=[GROUP_INFO_EXTENSION],
        )
        self._mls_groups: dict[GroupId, mls_rs.Group] = {}
        self._unwritten: dict[GroupId, GroupRow] = {}  # changed in memory, by this batch
        self._scope = _Scope()
        self._names: dict[IdentityKey, str] = {}  # of this batch
        self._restore_key_packages()

    # --- MLS groups

    def mls_group(self, group: GroupId) -> mls_rs.Group:
        """The live MLS group, loaded from the store when it is not in memory.

        Raises GroupDamaged.
        """
        loaded = self._mls_groups.get(group)
        if loaded is None:
            stored = self.groups.mls_state(group)
            if stored is None:
                raise GroupDamaged("missing")
            try:
                loaded = self.mls.load_group(group, *stored)
            except mls_rs.MlsError as error:
                raise GroupDamaged(error.code) from error
            self._mls_groups[group] = loaded
            self._skip_used(group, loaded)
        if group not in self._scope.touched:
            self._scope.touched.add(group)
            if group in self._unwritten:  # what the store has is older than that
                self._scope.before[group] = (loaded.clone(), self._unwritten[group])
        return loaded

    def is_damaged(self, group: GroupId) -> bool:
        try:
            self.mls_group(group)
        except GroupDamaged:
            return True
        return False

    def _skip_used(self, group: GroupId, loaded: mls_rs.Group) -> None:
        """Sends since the state was written are in `generations` alone: none is used twice."""
        row = self.groups.get(group)
        if row is not None and loaded.active:
            used = self.groups.next_generation(group, row.epoch_id)
            if used > loaded.next_generation:
                loaded.skip_to_generation(used)

    def reload(self, row: GroupRow) -> mls_rs.Group:
        """The group as it is on disk, where an earlier epoch was put back."""
        self.mls_group(row.id)  # touched: it is reloaded again if this is undone
        self._unwritten.pop(row.id, None)
        self._mls_groups.pop(row.id, None)
        return self.mls_group(row.id)

    def adopt(self, group: GroupId, mls: mls_rs.Group) -> None:
        """`mls` is what this group is from now on; `write_mls` puts it on disk."""
        self._scope.touched.add(group)
        self._mls_groups[group] = mls

    def forget_group(self, group: GroupId) -> None:
        """Nothing of it stays, in memory or on disk."""
        self._scope.touched.add(group)
        self._mls_groups.pop(group, None)
        self._unwritten.pop(group, None)
        self.groups.forget(group)
        self.branches.forget(group)

    def encrypt(self, row: GroupRow, plaintext: bytes) -> bytes:
        """An application message. Instead of the state, the next free generation is written."""
        mls = self.mls_group(row.id)
        sealed = mls.encrypt(plaintext)
        self.groups.put_next_generation(row, mls.next_generation)
        if mls.next_generation % WRITE_EVERY == 0:  # or loading would skip for long
            self.write_mls_later(row)
        return sealed

    def write_mls(self, row: GroupRow) -> None:
        """Writes the group's MLS state, and what else the client logged, in this transaction."""
        self._unwritten.pop(row.id, None)
        self._mls_groups[row.id].save()
        self.write_log(row)

    def write_mls_later(self, row: GroupRow) -> None:
        """Writes the group's MLS state once, however many messages the batch has."""
        self._unwritten[row.id] = row

    def write_unwritten(self) -> None:
        """Before a batch is committed, or the state on disk is copied."""
        for row in list(self._unwritten.values()):
            self.write_mls(row)

    def keep_snapshot(self, row: GroupRow) -> None:
        """Of the epoch that is being left, for who has to come back to it."""
        self.write_unwritten()  # the store copies what it has
        self.groups.snapshot(row, self.now)

    def write_log(self, row: GroupRow | None = None) -> None:
        for entry in self.mls.take_log():
            data = entry.data or b""
            if entry.kind == "key-package-insert":
                self.key_packages.add(_bytes(entry.id), data, self.now)
            elif entry.kind == "key-package-delete":
                self.key_packages.mark_used(_bytes(entry.id), self.now)
            elif row is not None:
                epoch = entry.id if isinstance(entry.id, int) else None
                self.groups.write_mls(row.id, row.incarnation, entry.kind, epoch, data)

    def begin_batch(self, now: float) -> None:
        self.now = now
        self.started = self.started or now
        self.effects = []
        self.ahead.clear()
        self.read_more.clear()
        self.renewed.clear()
        self.unreadable.clear()
        self._names.clear()
        self._scope = _Scope()

    @contextmanager
    def undoable(self) -> Iterator[None]:
        """What the block wrote, announced and did in MLS never happened when it is refused."""
        effects = len(self.effects)
        outside, self._scope = self._scope, _Scope()
        try:
            with self.db.savepoint():
                yield
            outside.take_in(self._scope)
        except (Fault, mls_rs.MlsError):
            self.forget_command()
            del self.effects[effects:]
            raise
        finally:
            self._scope = outside

    def forget_command(self) -> None:
        """After an undone transaction: what MLS has in memory never happened."""
        self.mls.take_log()
        for group in self._scope.touched:
            self._mls_groups.pop(group, None)
            self._unwritten.pop(group, None)
        for group, (before, row) in self._scope.before.items():
            self._mls_groups[group] = before
            self._unwritten[group] = row
        self._names.clear()
        self._restore_key_packages()
        self.load_hybrid_keys()

    def forget_everything(self) -> None:
        """After a batch that could not be committed."""
        self._scope = _Scope(touched=set(self._mls_groups))
        self.forget_command()

    def load_hybrid_keys(self) -> None:
        """Newest first; those before it open what was sealed to them."""
        self.hybrid_keys = [HybridKeyPair(*pair) for pair in self.people.hybrid_keys()]

    def _restore_key_packages(self) -> None:
        for reference, blob in self.key_packages.blobs():
            try:
                self.mls.restore_key_package(reference, blob)
            except mls_rs.BlobError:
                log.error("a KeyPackage of ours was damaged, and dropped: %s", reference.hex()[:12])
                self.key_packages.remove(reference)

    # --- groups

    def group(self, group: GroupId) -> GroupRow:
        """Raises Refused `unknown-group`."""
        row = self.groups.get(group)
        if row is None:
            raise Refused("unknown-group", f"no group {group}", hint="quicnprotochat groups")
        return row

    def emit(self, event: str, /, **fields: object) -> None:
        """Announces something to users and scripts, once the batch is on disk."""
        self.effects.append(Event(event, fields))

    def count(self, reason: str) -> None:
        """Something was dropped, and nobody is told but who looks at the counters."""
        self.effects.append(Counted(reason))

    def name_of(self, identity: IdentityKey) -> str:
        """What to call a person: the name in their bundle, or the start of their key."""
        name = self._names.get(identity)
        if name is None:
            name = self._names[identity] = self._look_up_name(identity)
        return name

    def _look_up_name(self, identity: IdentityKey) -> str:
        if identity == self.identity.public:
            return self.account_name
        bundle = self.people.bundle(identity)
        return bundle[1].name if bundle is not None else identity.hex()[:8]

    def carrier(self, entry: LedgerRow) -> IdentityKey | None:
        """The member who has a message and hands it on to this recipient."""
        return None if entry.carrier is None else self.people.owner(entry.carrier)

    @staticmethod
    def credential_owner(signature_key: bytes, credential: bytes) -> IdentityKey:
        """Raises Malformed `bad-credential`."""
        return verify_credential_untrusted(signature_key, credential)

    @property
    def account_name(self) -> str:
        return str(self.people.setting("name", ""))

    @property
    def relays(self) -> tuple[str, ...]:
        return tuple(json.loads(self.people.setting("relays", "[]")))


def _validate(signature_key: bytes, credential: bytes) -> None:
    verify_credential_untrusted(signature_key, credential)


def _bytes(value: int | bytes | None) -> bytes:
    if not isinstance(value, bytes):
        raise TypeError("a KeyPackageRef is bytes")
    return value


def epoch_id(group: mls_rs.Group) -> EpochId:
    """Tells branches that share an epoch number apart (RFC 9420 section 8.5 exporter)."""
    return EpochId(group.export_secret(EPOCH_ID_LABEL, b"", EpochId.LENGTH))


def group_extensions(info: GroupInfo) -> list[tuple[int, bytes]]:
    """The whole group context: our extension, and that every member must know it.

    Other implementations refuse to change an extension that is not required (RFC 9420 section
    11.1 defines `required_capabilities`: extension types, proposal types, credential types).
    """
    required = bytes([2]) + GROUP_INFO_EXTENSION.to_bytes(2, "big") + bytes(2)
    return [(REQUIRED_CAPABILITIES, required), (GROUP_INFO_EXTENSION, info.encode())]


def group_info(group: mls_rs.Group) -> GroupInfo:
    """Raises Fault `not-our-group` for a group made by another program."""
    return info_of(group.extension(GROUP_INFO_EXTENSION))
