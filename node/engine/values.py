"""What the engine answers and announces: frozen values for the API, the CLI and delivery."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from schemas.addresses import Address, BootstrapAddress
from schemas.ids import DeviceKey, EpochId, GroupId, IdentityKey, MessageId, ParcelId
from schemas.path_policy import PathPolicy


class GroupStatus(StrEnum):
    """How this device stands to a group."""

    ACTIVE = "active"
    SPLIT = "split"  # a fork is being decided: sends wait as `queued (group_split)`
    STRANDED = "stranded"  # cannot enter the branch that won, and waits to be re-admitted
    LEAVING = "leaving"  # our wish to leave waits for a member to commit it
    LEFT = "left"
    REMOVED = "removed"
    DAMAGED = "damaged"  # its keys on disk cannot be read; only shown, never stored
    RESTORED = "restored"  # known from a backup; a member has to invite this device


OVER = frozenset({GroupStatus.LEFT, GroupStatus.REMOVED, GroupStatus.RESTORED})
"""We hold no keys of it any more; a Welcome brings us in again."""

LIVE = frozenset({GroupStatus.ACTIVE, GroupStatus.SPLIT, GroupStatus.STRANDED})
"""We hold keys of a branch of it: what is written goes out, or waits for one branch."""

HOLDING = LIVE | {GroupStatus.LEAVING}
"""We hold keys of a branch of it, and may be about to leave."""


class State(StrEnum):
    """The delivery ledger's states, per message and recipient device.

    queued → sent | held | carried → delivered → read; expired and refused are ends too.
    """

    QUEUED = "queued"
    SENT = "sent"  # over a direct link, and on the recipient's disk; not yet said to be decrypted
    HELD = "held"  # on a relay's disk
    CARRIED = "carried"
    DELIVERED = "delivered"  # the recipient's device said, signed, that it has it decrypted
    READ = "read"
    EXPIRED = "expired"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class AccountView:
    """Who this node is."""

    identity: IdentityKey
    device: DeviceKey
    name: str
    card: str
    safety_number: str  # our half: the base that contacts compare
    relays: tuple[str, ...]
    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ContactView:
    identity: IdentityKey
    devices: tuple[DeviceKey, ...]
    name: str
    verified: bool
    safety_number: str
    reachable: bool  # its bundle is here: messages can be sealed to it


@dataclass(frozen=True, slots=True)
class DiscoverySecrets:
    """Ours, and those of contacts that are not blocked: (device, name, secret) for each device."""

    own: bytes = field(repr=False)
    contacts: tuple[tuple[DeviceKey, str, bytes], ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class BlockedView:
    """Somebody blocked; `since` in Unix seconds."""

    identity: IdentityKey
    name: str
    since: float


class Standing(StrEnum):
    """Where a member stands in a group, seen from our head."""

    HERE = "here"
    BEHIND = "behind"  # at an epoch that ours came from
    AHEAD = "ahead"  # at a commit below ours, or one that we have not heard of
    ELSEWHERE = "elsewhere"  # on another branch
    UNKNOWN = "unknown"  # has not been heard


@dataclass(frozen=True, slots=True)
class MemberView:
    """`epoch` and `standing` are of the device that is farthest; None where nobody asked."""

    identity: IdentityKey
    devices: tuple[DeviceKey, ...]
    name: str
    role: str  # "admin" or "member"
    epoch: int | None = None  # None, too, while it is not known
    standing: Standing | None = None


@dataclass(frozen=True, slots=True)
class GroupView:
    group: GroupId
    name: str
    kind: str  # "group" or "direct"
    epoch: int
    suite: str  # "hybrid" or "classic"
    status: GroupStatus
    accepted: bool
    inviter: IdentityKey | None
    members: tuple[MemberView, ...]
    epoch_id: EpochId


@dataclass(frozen=True, slots=True)
class SentView:
    """A message that is on disk. `status` is "queued" or "queued (group_split)"."""

    message: MessageId
    group: GroupId
    status: str


@dataclass(frozen=True, slots=True)
class MessageView:
    """A message of the inbox; `arrival` is what cursors count. Times in Unix seconds."""

    arrival: int
    message: MessageId
    group: GroupId
    group_name: str
    sender: IdentityKey
    sender_device: DeviceKey
    sender_name: str
    sequence: int
    text: str
    sent_at: float
    received_at: float
    path: str  # "direct", "relay", "carried" (by another member) or "own"
    own: bool


@dataclass(frozen=True, slots=True)
class LedgerView:
    """Where a message is, for one recipient device. `updated_at` in Unix seconds."""

    identity: IdentityKey
    device: DeviceKey
    name: str
    state: State
    path: str | None  # "direct" or "relay", once it left; "carried" by another member
    relay: str | None  # HOST:PORT#KEY
    held_until: float | None
    updated_at: float
    reason: str | None
    by: IdentityKey | None = None  # the member who has it and hands it on, where there is one
    by_name: str = ""


@dataclass(frozen=True, slots=True)
class WhyView:
    """One sentence and one action for a recipient that does not have a message yet."""

    identity: IdentityKey
    device: DeviceKey
    name: str
    state: State
    sentence: str
    action: str


@dataclass(frozen=True, slots=True)
class RequestView:
    """An invitation, or the first message of a stranger, that waits for `join`."""

    group: GroupId
    group_name: str
    kind: str
    inviter: IdentityKey
    inviter_name: str
    inviter_is_contact: bool


# --- for delivery


@dataclass(frozen=True, slots=True)
class OutboxItem:
    """A parcel that is due; `hybrid_key` is None while the recipient's bundle is not here."""

    parcel: ParcelId
    recipient: DeviceKey
    body: bytes  # ParcelBody: pad, then seal
    hybrid_key: bytes | None
    expires: int  # Unix seconds


@dataclass(frozen=True, slots=True)
class WaitingParcel:
    """A parcel of the outbox, due or not. `place` orders them: a commit precedes what follows."""

    item: OutboxItem
    message: MessageId | None
    place: tuple[int, ParcelId]


@dataclass(frozen=True, slots=True)
class PeerView:
    """What the engine knows of a device that delivery wants to reach."""

    device: DeviceKey
    identity: IdentityKey | None
    name: str
    endpoint: bytes | None  # Signed endpoint record, encoded
    hints: tuple[str, ...]  # HOST:PORT from the card
    relays: tuple[str, ...]  # HOST:PORT#KEY, in the recipient's order
    policy: PathPolicy = PathPolicy.AUTO
    hint_relays: tuple[str, ...] = ()  # that take nothing for them, and may know who does
    tokens: tuple[bytes, ...] = field(default=(), repr=False)  # delivery tokens, the best first


@dataclass(frozen=True, slots=True)
class OwnTokens:
    """Delivery tokens that open our mailboxes, as their SHA-256; `optional`: none is needed;
    `needed`: those of them that may be all that somebody has."""

    hashes: tuple[bytes, ...]
    optional: bool
    needed: frozenset[bytes] = frozenset()


@dataclass(frozen=True, slots=True)
class DhtStartView:
    """Where the DHT begins; `hides_address`: the user wants nobody to see our address,
    `hides_from_some`: or somebody not to."""

    bootstrap: tuple[BootstrapAddress, ...]
    contacts: tuple[tuple[DeviceKey, Address], ...]
    hides_address: bool
    hides_from_some: bool


@dataclass(frozen=True, slots=True)
class PolicyView:
    """By which paths a person may be reached; `identity` None: everybody without one of theirs."""

    identity: IdentityKey | None
    name: str
    policy: PathPolicy


@dataclass(frozen=True, slots=True)
class Accepted:
    """The parcel is on disk: acknowledge it. `known`: it had come before."""

    known: bool = field(default=False, compare=False)


@dataclass(frozen=True, slots=True)
class Deferred:
    """Not now: withhold the acknowledgement."""

    retry_after_s: float


@dataclass(frozen=True, slots=True)
class Rejected:
    """Never. `forget`: a relay's copy can be deleted; False when a newer version might read it.

    `garbage`: it did not even open, or was not what it said: nobody's honest mistake.
    """

    code: str
    forget: bool = True
    garbage: bool = False


Verdict = Accepted | Deferred | Rejected


# --- effects: released after the commit, in order


@dataclass(frozen=True, slots=True)
class OutboxReady:
    """These devices have parcels due."""

    devices: frozenset[DeviceKey]


@dataclass(frozen=True, slots=True)
class SummaryReady:
    """Send this signed summary (encoded) to a linked device as a frame."""

    device: DeviceKey
    summary: bytes


@dataclass(frozen=True, slots=True)
class BundleChanged:
    """Our own bundle or endpoint record is new: publish it."""


@dataclass(frozen=True, slots=True)
class TokensChanged:
    """Other delivery tokens open our mailboxes now: tell our relays."""


@dataclass(frozen=True, slots=True)
class KeyPackagesLow:
    """A KeyPackage of ours was used: top up the relays' stock."""


@dataclass(frozen=True, slots=True)
class PolicyChanged:
    """By which paths people may be reached has changed."""


@dataclass(frozen=True, slots=True)
class ContactsChanged:
    """Who is a contact, or what a contact's card or private part says, has changed."""


@dataclass(frozen=True, slots=True)
class LinkUnwanted:
    """End the link to this device, as a node does that stops."""

    device: DeviceKey


@dataclass(frozen=True, slots=True)
class Counted:
    """Something was dropped for this reason."""

    reason: str


@dataclass(frozen=True, slots=True)
class Event:
    """Something users and scripts want to see; `fields` are JSON values under cli.md's names.

    Kinds: message, ledger, request, joined, members, left, removed, group-split, group-healed,
    group-waits, equivocation, refused, contact-changed.
    """

    kind: str
    fields: dict[str, object]


Effect = (
    OutboxReady
    | SummaryReady
    | BundleChanged
    | TokensChanged
    | KeyPackagesLow
    | LinkUnwanted
    | ContactsChanged
    | PolicyChanged
    | Counted
    | Event
)
