"""What a store of the relay promises, whichever database is behind it.

Every coroutine that changes something returns after the change is durable, and not before. Times
are Unix seconds and always arguments: a store has no clock.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

from relay.store.delivery_tokens import ANYBODY, Bringer, DeliveryTokens
from relay.store.statements import RelayStatements
from schemas import limits
from schemas.errors import Fault, Refused
from schemas.ids import DeviceKey, IdentityKey
from schemas.node_service import Enqueued, EnqueueItem, Mailbox
from schemas.records import Signed

if TYPE_CHECKING:
    from relay.store.accounts import AccountStore
    from relay.store.arrivals import Arrivals
    from relay.store.audit import AuditLog
    from relay.store.channels import ChannelStore
    from relay.store.processes import Processes
    from relay.upkeep import Upkeep
from relay.store.blobs import BlobStore

MAX_NUMBER = 2**63 - 1  # what a database's integer holds; the wire's are unsigned
REQUEST_MEMORY_S = 600  # a repeated key package request gets the same answer for so long
TAKEN_MEMORY_S = 30 * 86400  # a key package that was handed out is refused for so long
LAST_RESORT_SUITES = 8  # per device, or 65,536 suites would hold 1 GiB
LAST_RESORT_REQUESTS = 1000  # remembered per device; further ones get an answer, unremembered
SWEEP_ROWS = 500  # one transaction of clearing must not hold up a commit for long
KNOWN_AFTER_S = 86400  # a mailbox that its owner opened so long ago has a right to the reserve


@dataclass(frozen=True, slots=True)
class Quotas:
    """Limits of one mailbox, of what is kept for one device, and of the whole store."""

    mailbox_parcels: int = limits.MAILBOX_PARCELS
    mailbox_bytes: int = limits.MAILBOX_BYTES
    key_packages: int = limits.KEY_PACKAGES_PER_DEVICE
    total_bytes: int = 16 * 1024 * limits.MIB  # of all parcels
    total_mailboxes: int = 1_000_000
    directory_bytes: int = 2 * 1024 * limits.MIB  # key packages, keys, bundles, endpoints
    strangers_share: float = 0.5  # of the totals, for mailboxes and devices that are not known
    token_share: float = 0.5  # of a mailbox, for what came with one delivery token
    blob_bytes: int = 64 * limits.MIB  # of one
    device_blobs: int = 1_000
    device_blob_bytes: int = 512 * limits.MIB  # reserved when an upload begins
    total_blobs: int = 1_000_000
    total_blob_bytes: int = 16 * 1024 * limits.MIB


@dataclass(slots=True)
class Usage:
    """What the store holds. `strangers` are the mailboxes that are not known."""

    mailboxes: int = 0
    parcels: int = 0
    bytes: int = 0
    strangers: int = 0
    strangers_bytes: int = 0
    directory_bytes: int = 0
    strangers_directory_bytes: int = 0
    blobs: int = 0
    blob_bytes: int = 0
    strangers_blob_bytes: int = 0


class MailboxName(NamedTuple):
    """Queues are per (channel, recipient); without a channel, `b""`, per recipient."""

    recipient: DeviceKey
    channel: bytes = b""


@dataclass(frozen=True, slots=True)
class MailboxState:
    """Counts of one mailbox. `refused_since` is when it first refused a parcel for being full."""

    parcels: int
    bytes: int
    next_sequence: int
    refused_since: int | None


@dataclass(frozen=True, slots=True)
class KeyPackageAnswer:
    """A key package that was handed out."""

    package: bytes
    last_resort: bool


@dataclass(frozen=True, slots=True)
class StoredHybridKey:
    """A hybrid public key with the signature of its device."""

    hybrid_key: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class Written:
    """One transaction: how many jobs it held, and seconds for their statements and the COMMIT."""

    jobs: int
    work_s: float
    commit_s: float


class RelayStore(Protocol):
    """The contract; tests/relay/test_store_contract.py holds every store to it.

    `arrivals` wakes who waits for mail. `trouble` is why the last write failed, None when it did
    not; `full`, whether the whole store has no room. `counters` counts parcels: `accepted`,
    `acknowledged`, `expired` and `damaged`. `upkeep` knows what the store does by itself, and what
    the relay does with it.
    """

    @property
    def arrivals(self) -> Arrivals: ...
    @property
    def audit(self) -> AuditLog: ...
    @property
    def blobs(self) -> BlobStore: ...
    @property
    def accounts(self) -> AccountStore: ...
    @property
    def channels(self) -> ChannelStore: ...
    @property
    def delivery_tokens(self) -> DeliveryTokens: ...
    @property
    def processes(self) -> Processes | None:
        """None where one process alone has the store."""
        ...

    @property
    def upkeep(self) -> Upkeep: ...
    @property
    def trouble(self) -> Fault | None: ...
    @property
    def counters(self) -> Counter[str]: ...
    @property
    def usage(self) -> Usage: ...
    @property
    def full(self) -> bool: ...
    @property
    def statements(self) -> RelayStatements: ...

    async def enqueue(
        self, items: Sequence[EnqueueItem], *, now: int, by: Bringer = ANYBODY
    ) -> list[Enqueued | Refused]:
        """Keep parcels, one outcome for each: together on disk when this returns.

        A mailbox whose delivery tokens are set, and not optional, takes only what comes with one
        of them or from its owner, else Refused `delivery-token-refused`; so does every mailbox
        from whom is not admitted, whether it is there or not. A token whose share of the mailbox
        is used up: TryLater `delivery-token-full`. Mailboxes of channels have no tokens. Refused
        `no-mailbox` for one that is not there and may not be made.

        A parcel id that the mailbox holds gets its first outcome again. Sequence numbers of a
        mailbox grow by acceptance and are never given twice, whatever was acknowledged since.
        Refused `mailbox-full` (a TryLater) leaves `refused_since`; `relay-full` when the whole
        store has no room. Whoever watches `arrivals` of a mailbox is woken after the commit, also
        when the caller has gone. Raises TryLater `busy`.
        """
        ...

    async def peek(
        self, name: MailboxName, *, after: int, limit: int, max_bytes: int, now: int
    ) -> Mailbox:
        """Live parcels above `after` in order, until `limit` or `max_bytes` (but one at least).

        One whose checksum is wrong is never among them: it is taken out of the mailbox and counted.
        """
        ...

    async def open_mailbox(self, name: MailboxName, *, now: int) -> None:
        """Its owner is here: make it if there is none. Raises TryLater `relay-full`."""
        ...

    async def forget_refusal(self, name: MailboxName, since: int) -> None:
        """The owner has seen this `refused_since`; forget it if there is room again."""
        ...

    async def acknowledge(self, name: MailboxName, sequences: Sequence[int]) -> int:
        """Forget these parcels; how many there were. Repeating it is harmless."""
        ...

    async def mailbox_state(self, name: MailboxName) -> MailboxState: ...

    async def put_key_package(
        self, device: DeviceKey, suite: int, package: bytes, *, last_resort: bool, now: int
    ) -> int:
        """Stock a package; how many of this suite are in stock (without the last resort).

        A package that is in stock already changes nothing. Raises Refused `key-packages-full`,
        `key-package-used`, `too-many-suites`; TryLater `relay-full`.

        What the directory has of strangers (see rules.py) shares a part of its room, and goes when
        nobody has put any of it for DIRECTORY_MEMORY_S; putting the same again counts as well.
        """
        ...

    async def take_key_package(
        self, device: DeviceKey, suite: int, request: bytes, *, now: int
    ) -> KeyPackageAnswer | None:
        """Consume the oldest package in stock, or show the last resort; None when there is none.

        The same request gets the same answer for REQUEST_MEMORY_S.
        """
        ...

    async def put_hybrid_key(
        self, device: DeviceKey, key: StoredHybridKey, *, now: int
    ) -> None: ...

    async def hybrid_keys(self, devices: Sequence[DeviceKey]) -> list[StoredHybridKey | None]: ...

    async def put_bundle(
        self, identity: IdentityKey, number: int, bundle: Signed, *, by: DeviceKey, now: int
    ) -> None:
        """Newest number wins; the same bytes again are fine. `by` brings it.

        Raises Refused `stale`, `too-many-people`; TryLater `relay-full`.
        """
        ...

    async def bundle(self, identity: IdentityKey) -> Signed | None: ...

    async def put_endpoint(
        self, device: DeviceKey, sequence: int, expires: int, record: Signed, *, now: int
    ) -> None:
        """Newest sequence number wins. Raises Refused `stale`; the same bytes again are fine."""
        ...

    async def endpoint(self, device: DeviceKey, *, now: int) -> Signed | None: ...

    async def sweep(self, *, now: int) -> int:
        """Delete up to SWEEP_ROWS of each kind of what has expired; how many rows went."""
        ...

    async def probe(self, *, now: int) -> None:
        """Write something durably. Raises what a write raises."""
        ...

    async def close(self) -> None:
        """Finish what is queued, then let go. Idempotent; afterwards calls raise `store-closed`."""
        ...
