"""What the shell asks of the engine to deliver: of peers and links, the DHT, and parcels."""

from __future__ import annotations

from dataclasses import dataclass

from discovery.dht.publication import Publication
from identity.cell import Cell
from node.engine.commands import Command
from node.engine.values import (
    DhtStartView,
    DiscoverySecrets,
    OutboxItem,
    OwnTokens,
    PeerView,
    Verdict,
    WaitingParcel,
)
from schemas.addresses import Address, EndpointAddress
from schemas.frames import BundleResponse, Hello
from schemas.ids import DeviceKey, GroupId, IdentityKey, MessageId, ParcelId
from schemas.introduction import Introduction
from schemas.parcels import Parcel
from schemas.records import Signed

# --- what we publish


@dataclass(frozen=True, slots=True)
class SetEndpoint(Command[Signed]):
    """Our addresses and relays as they are now; the signed record gets the next number if new."""

    addresses: tuple[EndpointAddress, ...]


@dataclass(frozen=True, slots=True)
class OwnRecords(Command[tuple[Signed, Signed | None]]):
    """Our bundle core and endpoint record, to publish."""


@dataclass(frozen=True, slots=True)
class OwnDeliveryTokens(Command[OwnTokens]):
    """What opens our mailboxes, to tell our relays."""


@dataclass(frozen=True, slots=True)
class OwnHybridKey(Command[tuple[bytes, bytes]]):
    """Our hybrid public key and the device's signature over it."""


@dataclass(frozen=True, slots=True)
class MakeKeyPackage(Command[tuple[bytes, bytes]]):
    """A new KeyPackage of ours for a relay's stock: (MLSMessage, KeyPackageRef)."""

    suite: int
    last_resort: bool = False


# --- peers


@dataclass(frozen=True, slots=True)
class LookUpPeer(Command[PeerView]):
    device: DeviceKey


@dataclass(frozen=True, slots=True)
class Acquainted(Command[bool]):
    """Whether a device is a contact's or a fellow member's, and not of somebody blocked."""

    device: DeviceKey


@dataclass(frozen=True, slots=True)
class Introducers(Command[tuple[DeviceKey, ...]]):
    """Linked devices to ask to bring us together with `device`, which `has_relay` or has none."""

    device: DeviceKey
    has_relay: bool


@dataclass(frozen=True, slots=True)
class ReadDiscoverySecrets(Command[DiscoverySecrets]):
    """By which contacts recognise us on the LAN, and we them."""


@dataclass(frozen=True, slots=True)
class PeersToGreet(Command[tuple[DeviceKey, ...]]):
    """Contacts' and members' devices, those last heard of first."""

    limit: int = 32


@dataclass(frozen=True, slots=True)
class KnownNumber(Command[int]):
    """The number of the bundle we hold of a person, 0 for none."""

    identity: IdentityKey


@dataclass(frozen=True, slots=True)
class ReceiveBundle(Command[None]):
    """A bundle from a peer or relay; verified, kept when it is of somebody we know and newer."""

    core: Signed | None
    endpoints: tuple[Signed, ...] = ()


# --- the DHT


@dataclass(frozen=True, slots=True)
class OwnPublications(Command[tuple[Publication, ...]]):
    """Our endpoint record for the DHT, in private and, if `public`, plainly.

    Empty when there is none, or while our address is hidden from anybody.
    """

    public: bool = False


@dataclass(frozen=True, slots=True)
class CellsOf(Command[tuple[Cell, ...]]):
    """Where a device's private records are today; empty when we hold no card of its owner."""

    device: DeviceKey


@dataclass(frozen=True, slots=True)
class DhtStart(Command[DhtStartView]):
    """Where the DHT begins: what the user named, and whom we knew last."""


@dataclass(frozen=True, slots=True)
class KeepDhtContacts(Command[None]):
    """Whom to begin with next time; in place of those before."""

    contacts: tuple[tuple[DeviceKey, Address], ...]


# --- links


@dataclass(frozen=True, slots=True)
class OwnHello(Command[Hello]):
    """Our hello for a peer that we see at `observed` (HOST:PORT).

    Raises Fault `away` for one that gets no link.
    """

    observed: str
    device: DeviceKey | None = None


@dataclass(frozen=True, slots=True)
class LinkUp(Command["BundleWish | None"]):
    """A link's hello came.

    Raises Malformed when the credential is forged, Fault `away` for a peer that gets no link.

    Answers what to ask the peer for, when it has something newer than we hold.
    """

    device: DeviceKey
    hello: Hello


@dataclass(frozen=True, slots=True)
class BundleWish:
    identity: IdentityKey
    newer_than: int


@dataclass(frozen=True, slots=True)
class LinkDown(Command[None]):
    device: DeviceKey


@dataclass(frozen=True, slots=True)
class AnswerBundle(Command[BundleResponse]):
    """What to answer a peer's bundle request: our own bundle and endpoint record, or nothing."""

    identity: IdentityKey
    newer_than: int
    device: DeviceKey | None = None  # the peer


@dataclass(frozen=True, slots=True)
class AnswerKeyPackage(Command[bytes]):
    """A KeyPackage for a peer that asks over a link; the same for the same request id."""

    device: DeviceKey
    suite: int
    request_id: bytes


# --- parcels


@dataclass(frozen=True, slots=True)
class Arrived(Command[Verdict]):
    """A parcel for this device; the answer is released when it is on disk.

    `path` is "direct", "relay", or "carried" (in a file); `via` is the device at the other end of
    a direct link. What another than its author hands over came by the path "carried".
    """

    parcel: Parcel
    path: str
    via: DeviceKey | None = None


@dataclass(frozen=True, slots=True)
class ReceiveSummary(Command[None]):
    """A summary frame of a linked device."""

    device: DeviceKey
    summary: Signed


@dataclass(frozen=True, slots=True)
class TakeDue(Command[tuple[OutboxItem, ...]]):
    """Due parcels of one recipient, oldest first; each is out until its outcome is reported."""

    recipient: DeviceKey
    limit: int = 64


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a parcel that was taken.

    Exactly one of: `acked` (on the recipient's disk), `held` (relay and until when, Unix
    seconds), `refused` (the recipient's code), or none: try again after `retry_after_s`, or by
    the schedule; `reason` says why.
    """

    parcel: ParcelId
    acked: bool = False
    held: tuple[str, int] | None = None
    refused: str | None = None
    reason: str | None = None
    retry_after_s: float | None = None


@dataclass(frozen=True, slots=True)
class ReportOutcomes(Command[None]):
    outcomes: tuple[Outcome, ...]


@dataclass(frozen=True, slots=True)
class ReadOutbox(Command[tuple[WaitingParcel, ...]]):
    """What waits, due or not, of `recipients` or all and of a group or all, past a place.

    Nothing is taken: all of it is sent as before.
    """

    after: tuple[int, ParcelId] = (0, ParcelId(bytes(16)))
    recipients: tuple[DeviceKey, ...] | None = None
    group: GroupId | None = None
    limit: int = 64


@dataclass(frozen=True, slots=True)
class NoteExported(Command[None]):
    """These messages are in a file of that name, for these devices."""

    messages: tuple[tuple[MessageId, DeviceKey], ...]
    file: str


@dataclass(frozen=True, slots=True)
class ReceiveIntroduction(Command[IdentityKey]):
    """Of somebody we know: the bundle and KeyPackages are kept. Answers who it was.

    Raises Refused `not-a-contact`, Malformed.
    """

    introduction: Introduction


@dataclass(frozen=True, slots=True)
class TakeKeyPackage(Command[bytes | None]):
    """A KeyPackage of a device that came in an introduction; it is not given out again."""

    device: DeviceKey
    suite: int


@dataclass(frozen=True, slots=True)
class Retry(Command[None]):
    """A device came into reach: what waits for it is due now."""

    device: DeviceKey


@dataclass(frozen=True, slots=True)
class PendingCount(Command[int]):
    """Parcels that have not left this node at all (neither sent nor held).

    `tell`: receipts that are owed are made now, and count as well.
    """

    tell: bool = False
