"""What a user can ask of the engine. Each command names the type of its answer.

A command that is refused raises a Fault to its caller alone, and leaves no trace in the store.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from node.engine.values import (
    AccountView,
    BlockedView,
    ContactView,
    GroupView,
    LedgerView,
    MessageView,
    PolicyView,
    RequestView,
    SentView,
    WhyView,
)
from schemas.ids import DeviceKey, GroupId, IdentityKey
from schemas.path_policy import PathPolicy
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
class SetName(Command[None]):
    """Our display name; a change makes a new bundle. Refused `bad-name`."""

    name: str


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


# --- the DHT


@dataclass(frozen=True, slots=True)
class SetBootstrap(Command[None]):
    """What the user named (HOST:PORT or HOST:PORT#DEVICE_KEY). Refused `bad-bootstrap`."""

    addresses: tuple[str, ...]


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


# --- the home, and its time


@dataclass(frozen=True, slots=True)
class TakeBackup(Command[bytes]):
    """The content of a backup, to be sealed: the identity's seed is in it."""


@dataclass(frozen=True, slots=True)
class Tick(Command[None]):
    """Time passed: intents, expiry, sweeps and retries that are due."""
