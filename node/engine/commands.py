"""Everything that can be asked of the engine. Each command names the type of its answer.

A command that is refused raises a Fault to its caller alone, and leaves no trace in the store.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from discovery.dht.publication import Publication
from identity.cell import Cell
from node.engine.values import (
    AccountView,
    BlockedView,
    ContactView,
    DhtStartView,
    DiscoverySecrets,
    GroupView,
    LedgerView,
    MessageView,
    OutboxItem,
    OwnTokens,
    PeerView,
    PolicyView,
    RequestView,
    SentView,
    Verdict,
    WaitingParcel,
    WhyView,
)
from schemas.addresses import Address, EndpointAddress
from schemas.frames import BundleResponse, Hello
from schemas.ids import DeviceKey, GroupId, IdentityKey, MessageId, ParcelId
from schemas.introduction import Introduction
from schemas.parcels import Parcel
from schemas.path_policy import PathPolicy
from schemas.records import Signed
from telemetry.checks import Check

R = TypeVar("R")


class Command(Generic[R]):
    """Base of all commands; R is what the engine answers."""

    __slots__ = ()


# --- the account


@dataclass(frozen=True, slots=True)
class WhoAmI(Command[AccountView]):
    pass


@dataclass(frozen=True, slots=True)
class SetEndpoint(Command[Signed]):
    """Our addresses and relays as they are now; the signed record gets the next number if new."""

    addresses: tuple[EndpointAddress, ...]


@dataclass(frozen=True, slots=True)
class SetRelays(Command[None]):
    """Our relays (HOST:PORT#KEY), in order of preference; a change makes a new bundle."""

    relays: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FollowRelay(Command[None]):
    """Where the processes of a relay of ours listen now (HOST:PORT,…#KEY), as it says itself."""

    relay: str


@dataclass(frozen=True, slots=True)
class SetName(Command[None]):
    """Our display name; a change makes a new bundle. Refused `bad-name`."""

    name: str


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


# --- people


@dataclass(frozen=True, slots=True)
class AddContact(Command[ContactView]):
    """From a card's text. Adding it again renews it."""

    card: str


@dataclass(frozen=True, slots=True)
class ListContacts(Command[tuple[ContactView, ...]]):
    pass


@dataclass(frozen=True, slots=True)
class VerifyContact(Command[ContactView]):
    identity: IdentityKey


@dataclass(frozen=True, slots=True)
class Block(Command[BlockedView]):
    """Nothing of this person is shown any more, and they are not told."""

    identity: IdentityKey


@dataclass(frozen=True, slots=True)
class Unblock(Command[BlockedView]):
    """Refused `not-blocked`."""

    identity: IdentityKey


@dataclass(frozen=True, slots=True)
class ListBlocked(Command[tuple[BlockedView, ...]]):
    pass


@dataclass(frozen=True, slots=True)
class FindPerson(Command[IdentityKey]):
    """By identity key, unique prefix of at least 6 digits, name, or card.

    Refused `unknown-person` or `ambiguous-name`.
    """

    text: str


@dataclass(frozen=True, slots=True)
class DevicesOf(Command[tuple[DeviceKey, ...]]):
    """A person's devices, from the bundle, or the card while there is none; may be empty."""

    identity: IdentityKey


@dataclass(frozen=True, slots=True)
class SetPathPolicy(Command[PolicyView]):
    """By which paths a person may be reached; None stands for all, and for "as for all".

    Refused `yourself`.
    """

    identity: IdentityKey | None
    policy: PathPolicy | None


@dataclass(frozen=True, slots=True)
class PathPolicyOf(Command[PolicyView]):
    """The policy that counts for a person."""

    identity: IdentityKey


@dataclass(frozen=True, slots=True)
class ListPathPolicies(Command[tuple[PolicyView, ...]]):
    """The one for all first, then those of persons."""


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


@dataclass(frozen=True, slots=True)
class SetBootstrap(Command[None]):
    """What the user named (HOST:PORT or HOST:PORT#DEVICE_KEY). Refused `bad-bootstrap`."""

    addresses: tuple[str, ...]


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


# --- groups


@dataclass(frozen=True, slots=True)
class CreateGroup(Command[GroupView]):
    name: str
    suite: int


@dataclass(frozen=True, slots=True)
class CreateDirect(Command[GroupView]):
    """A one-to-one group with a person, from KeyPackages of their devices."""

    identity: IdentityKey
    suite: int
    key_packages: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Invite(Command[GroupView]):
    """Adds devices of these people, by their KeyPackages; their bundles are here.

    In the same commit the leaves go that these replace: of a device that is a member and is added
    again since it lost the group, and of devices that their owner has no more.
    """

    group: GroupId
    people: tuple[IdentityKey, ...]
    key_packages: tuple[bytes, ...]
    admin: bool = False


@dataclass(frozen=True, slots=True)
class Join(Command[GroupView]):
    """Accepts an invitation."""

    group: GroupId


@dataclass(frozen=True, slots=True)
class Leave(Command[GroupView]):
    """Declines an invitation, or asks the members to commit our removal."""

    group: GroupId


@dataclass(frozen=True, slots=True)
class RemoveMember(Command[GroupView]):
    group: GroupId
    identity: IdentityKey


@dataclass(frozen=True, slots=True)
class UpdateKey(Command[GroupView]):
    group: GroupId


@dataclass(frozen=True, slots=True)
class ListGroups(Command[tuple[GroupView, ...]]):
    pass


@dataclass(frozen=True, slots=True)
class ListRequests(Command[tuple[RequestView, ...]]):
    pass


@dataclass(frozen=True, slots=True)
class FindGroup(Command[GroupView]):
    """By id, unique prefix of at least 6 digits, or name; with `standings`, who stands where.

    Refused `unknown-group` or `ambiguous-name`.
    """

    text: str
    standings: bool = False


@dataclass(frozen=True, slots=True)
class ExamineGroup(Command[tuple[Check, ...]]):
    """Why a group waits, if it does. Refused `unknown-group`."""

    group: GroupId


@dataclass(frozen=True, slots=True)
class FindDirect(Command[GroupView | None]):
    """The one-to-one group with a person; of two, the one with the lower id."""

    identity: IdentityKey


# --- messages


@dataclass(frozen=True, slots=True)
class Send(Command[SentView]):
    group: GroupId
    text: str


@dataclass(frozen=True, slots=True)
class ReadMessages(Command[tuple[MessageView, ...]]):
    """What a named cursor has not acknowledged, of all accepted groups or one.

    By arrival between calls; what is new is in the group's order (Lamport time, author, sequence).
    """

    cursor: str
    group: GroupId | None = None
    limit: int = 200


@dataclass(frozen=True, slots=True)
class ReadHistory(Command[tuple[MessageView, ...]]):
    """The last messages of a group past an arrival number, our own among them; moves no cursor.

    In the group's order. Refused `unknown-group`.
    """

    group: GroupId
    after: int = 0
    limit: int = 50


@dataclass(frozen=True, slots=True)
class MoveCursor(Command[None]):
    """The user has seen everything of these groups up to an arrival number."""

    cursor: str
    seen: tuple[tuple[GroupId, int], ...]


@dataclass(frozen=True, slots=True)
class ReadLedger(Command[tuple[LedgerView, ...]]):
    """By message id or a unique prefix of at least 6 digits. Refused `unknown-message`."""

    message: str


@dataclass(frozen=True, slots=True)
class Why(Command[tuple[WhyView, ...]]):
    message: str


# --- delivery


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


@dataclass(frozen=True, slots=True)
class TakeBackup(Command[bytes]):
    """The content of a backup, to be sealed: the identity's seed is in it."""


@dataclass(frozen=True, slots=True)
class Tick(Command[None]):
    """Time passed: intents, expiry, sweeps and retries that are due."""
