"""What a store promises about accounts: who has a name here, by which devices, and how they came.

An account is an identity with a name, a password's OPAQUE record, and devices. Names are in the
form of `schemas.accounts.account_name`. Tokens are never kept, only their SHA-256. Each change of
an account, and of invites, writes its row of the audit log in the same transaction.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from schemas.errors import Refused
from schemas.ids import DeviceKey, IdentityKey

SESSIONS_PER_ACCOUNT: Final = 16  # the oldest ends
REVOKED_PER_ACCOUNT: Final = 64  # remembered, so that they stay out; the oldest is forgotten
INVITE_ID: Final = 8  # hex digits that name an invite to the operator
EXPIRED_INVITE_S: Final = 30 * 86400  # kept for so long, for the operator to see who came by it
# The same in every database: see `entries_of`
ENTRIES: Final = (
    "SELECT identity, name, made, invite, (SELECT max(issued) FROM sessions s"
    " WHERE s.identity = a.identity) FROM accounts a ORDER BY made, name"
)
ENTRY_DEVICES: Final = (
    "SELECT identity, device, name, registered FROM account_devices"
    " WHERE revoked IS NULL ORDER BY registered, device"
)


@dataclass(frozen=True, slots=True)
class Account:
    """`record`: a byte, the version of the key stretching, then OPAQUE's record."""

    name: str
    identity: IdentityKey
    record: bytes


@dataclass(frozen=True, slots=True)
class Standing:
    """What a device is to the relay: whose, and whether its owner has shut it out."""

    identity: IdentityKey
    revoked: bool


@dataclass(frozen=True, slots=True)
class Session:
    """A login of a device, which has one at a time; `token` is the SHA-256 of its token."""

    name: str
    identity: IdentityKey
    token: bytes
    issued: int
    expires: int


@dataclass(frozen=True, slots=True)
class RegisteredDevice:
    """A device of an account; `registered` in Unix seconds."""

    device: DeviceKey
    name: str
    registered: int


@dataclass(frozen=True, slots=True)
class AccountEntry:
    """An account as its operator sees it; times in Unix seconds.

    `invite` is the id of the one that it was made with. `logged_in` is when the newest session
    began; None: there was no login of late, for sessions are kept a day.
    """

    name: str
    identity: IdentityKey
    made: int
    logged_in: int | None
    invite: str | None
    devices: tuple[RegisteredDevice, ...]


@dataclass(frozen=True, slots=True)
class Invite:
    """`used` of `uses` accounts were made with it, those that are still there by `names`."""

    id: str
    uses: int
    used: int
    made: int
    expires: int
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AccountCounts:
    """How many there are; `sessions` counts those that have not ended."""

    accounts: int = 0
    devices: int = 0
    sessions: int = 0
    invites: int = 0


class AccountStore(Protocol):
    """The part `store.accounts`; tests/relay/store/test_accounts.py holds every store to it.

    Times are Unix seconds. What changes something returns when that is on disk.
    """

    async def server_setup(self, fresh: bytes) -> bytes:
        """OPAQUE's set-up of this relay for ever; `fresh` becomes it when there is none."""
        ...

    async def account(self, name: str) -> Account | None: ...

    async def owner(self, name: str) -> IdentityKey | None: ...

    async def entries(self) -> list[AccountEntry]:
        """All accounts, oldest first, each with its devices that are not revoked, oldest first."""
        ...

    async def register(
        self,
        account: Account,
        device: DeviceKey,
        device_name: str,
        *,
        invite: bytes | None,
        most: int,
        now: int,
    ) -> None:
        """Make an account with its first device; one of `invite` (a hash), if given, is used up.

        All or nothing. Raises Refused `name-taken`, `identity-taken`, `device-taken`,
        `bad-invite`; `accounts-full` when there are `most` accounts.
        """
        ...

    async def standing(self, device: DeviceKey) -> Standing | None:
        """None: no account has, or had, this device."""
        ...

    async def registered(self, devices: Collection[DeviceKey]) -> set[DeviceKey]:
        """Those of them that are in an account and not revoked."""
        ...

    async def start_session(
        self, account: Account, device: DeviceKey, token: bytes, *, issued: int, expires: int
    ) -> bool:
        """Replace the device's session; False when that very account is there no more."""
        ...

    async def session(self, device: DeviceKey) -> Session | None: ...

    async def end_session(self, device: DeviceKey) -> None: ...

    async def add_device(
        self, identity: IdentityKey, device: DeviceKey, name: str, *, most: int, now: int
    ) -> None:
        """Register a device, or name it anew; one that was revoked comes back.

        Raises Refused `no-account`, `device-taken` (another's), `too-many-devices`.
        """
        ...

    async def devices(self, identity: IdentityKey) -> list[RegisteredDevice]:
        """Oldest first, without those revoked."""
        ...

    async def revoke_device(
        self, identity: IdentityKey, device: DeviceKey, *, now: int, by_operator: bool = False
    ) -> bool:
        """Shut a device out and end its session; False when the account has no such device."""
        ...

    async def delete(
        self, identity: IdentityKey, *, now: int, by_operator: bool = False
    ) -> Sequence[DeviceKey]:
        """Forget the account and everything kept for its identity and its devices; the latter.

        Mail, key packages, keys, bundle, endpoints, statement, tokens and blobs go with it, in one
        transaction, and the audit log forgets whom its rows were about.
        """
        ...

    async def make_invite(self, token: bytes, *, uses: int, expires: int, now: int) -> Invite:
        """`token` is the SHA-256 of one."""
        ...

    async def invite_holds(self, token: bytes, *, now: int) -> bool:
        """Whether it could be used now."""
        ...

    async def invites(self) -> list[Invite]:
        """Newest first; those that have expired, too, until they are swept."""
        ...

    async def revoke_invite(self, id: str, *, now: int) -> bool:
        """The accounts made with it stay. False when there is none of this id."""
        ...

    async def counts(self, *, now: int) -> AccountCounts: ...


def name_taken() -> Refused:
    return Refused("name-taken", "that name cannot be had here", hint="choose another name")


def bad_invite() -> Refused:
    return Refused(
        "bad-invite",
        "this relay wants an invite that it has given out, and that still holds",
        hint="ask whoever runs the relay for one; if you have an account here already, log in",
    )


def no_account() -> Refused:
    return Refused("no-account", "there is no such account here", hint="register it first")


def about_account(name: str, device: DeviceKey | None = None) -> str:
    """The audit log's word for an account, and a device of it."""
    return f"account:{name}" if device is None else f"account:{name} device:{device.hex()}"


def about_invite(token: bytes) -> str:
    """The audit log's word for an invite."""
    return f"invite:{invite_id(token)}"


def entries_of(accounts: Iterable[Any], devices: Iterable[Any]) -> list[AccountEntry]:
    """Of the rows that ENTRIES and ENTRY_DEVICES find."""
    owned = defaultdict(list)
    for identity, device, name, registered in devices:
        owned[identity].append(RegisteredDevice(DeviceKey(device), name, registered))
    return [
        AccountEntry(
            name,
            IdentityKey(identity),
            made,
            logged_in,
            None if invite is None else invite_id(invite),
            tuple(owned[identity]),
        )
        for identity, name, made, invite, logged_in in accounts
    ]


def event_of(change: str, *, by_operator: bool) -> str:
    """The audit log's word for what became of an account: who did it is told, too."""
    return f"{change}-by-operator" if by_operator else change


def invite_id(token: bytes) -> str:
    return token.hex()[:INVITE_ID]
