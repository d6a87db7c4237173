"""What can be asked of the engine about relays: ours, those that were ours, and others'."""

from __future__ import annotations

from dataclasses import dataclass, field

from node.engine.commands import Command
from schemas.ids import DeviceKey
from schemas.records import Signed


@dataclass(frozen=True, slots=True)
class SetRelays(Command[None]):
    """Our relays (HOST:PORT#KEY), in order of preference; a change makes a new bundle."""

    relays: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FollowRelay(Command[None]):
    """Where the processes of a relay of ours listen now (HOST:PORT,…#KEY), as it says itself."""

    relay: str


@dataclass(frozen=True, slots=True)
class ChangeRelays(Command[None]):
    """Add relays (HOST:PORT#KEY) behind those we have, or `first`; drop others. A change makes a
    new bundle. With `at_once` what is dropped is not read any more, whatever lies there.

    Refused `not-our-relay`, `too-many-relays`, `bad-relay`.
    """

    add: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()
    first: bool = False
    at_once: bool = False


@dataclass(frozen=True, slots=True)
class FormerRelayView:
    """Times in Unix seconds: when we left it, and how long it is read at the longest."""

    relay: str
    since: float
    until: float


@dataclass(frozen=True, slots=True)
class ListFormerRelays(Command[tuple[FormerRelayView, ...]]):
    """Relays that were ours and are read still."""


@dataclass(frozen=True, slots=True)
class FormerRelayEmpty(Command[None]):
    """Our mailbox at a relay that was ours is empty: it is let go, if everybody knows."""

    relay: str


@dataclass(frozen=True, slots=True)
class OwnRelayStatement(Command[Signed]):
    """Where we read our mail, to publish."""


@dataclass(frozen=True, slots=True)
class ReceiveRelayStatement(Command[bool]):
    """Where somebody reads their mail, as a relay has it; whether that was news. Verified, kept
    when it is of somebody we know and newer than their bundle; counted when it is older.

    Raises Malformed.
    """

    statement: Signed


# --- what lets us in at a relay


@dataclass(frozen=True, slots=True)
class RelaySession:
    """A login to our account at a relay; `token` is secret, `expires` in Unix seconds."""

    relay: DeviceKey
    name: str
    token: bytes = field(repr=False)
    expires: float


@dataclass(frozen=True, slots=True)
class KeepRelaySession(Command[None]):
    session: RelaySession


@dataclass(frozen=True, slots=True)
class ListRelaySessions(Command[tuple[RelaySession, ...]]):
    """Also those that have ended: the name of the account is known by them."""


@dataclass(frozen=True, slots=True)
class ForgetRelaySession(Command[None]):
    relay: DeviceKey


@dataclass(frozen=True, slots=True)
class SetRelayToken(Command[None]):
    """What a relay's operator gives to whom it lets in; empty: none any more.

    Refused `bad-token`.
    """

    relay: DeviceKey
    token: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class ReadRelayTokens(Command[dict[DeviceKey, bytes]]):
    pass


@dataclass(frozen=True, slots=True)
class OwnCredential(Command[bytes]):
    """Our identity's word that this device is ours; see identity.credential."""
