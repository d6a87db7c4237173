"""Who may have things kept here: `open` to anybody, by `invite`, or with the relay's `token`.

What an account has registered is admitted by its device key alone, as TLS proves it: a node runs
for months without its password. A device that its owner has revoked is not, whatever the mode.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Final

from relay.call import Call
from relay.callers import Callers
from relay.store.accounts import AccountStore, bad_invite
from schemas.errors import Refused

OPEN: Final = "open"
INVITE: Final = "invite"
TOKEN: Final = "token"  # noqa: S105 - the mode, not a secret


class Admission:
    """`mode` is one of the words above; `auth_token` is set for TOKEN only."""

    def __init__(
        self, mode: str, auth_token: str | None, accounts: AccountStore, callers: Callers
    ) -> None:
        self._mode = mode
        self._expected = None if auth_token is None else _digest(auth_token.encode())
        self._accounts = accounts
        self._callers = callers

    async def introduce(self, call: Call) -> None:
        """Before something is kept for the caller.

        Raises Refused `not-admitted`, `device-revoked`; TryLater `try-later`,
        `too-many-connections`.
        """
        caller = call.caller
        if caller.introduced:
            return
        standing = await self._accounts.standing(caller.device)
        if standing is None:
            if self._mode == OPEN:
                self._callers.introduce(caller)
            elif not self._shows_token(call):
                raise not_admitted()
        elif standing.revoked:
            raise Refused(
                "device-revoked",
                "this device was revoked by its owner",
                hint="log in with it and register it again, if it is yours",
            )
        self._callers.keep(caller, registered=standing is not None)

    async def admits(self, call: Call) -> bool:
        """Whether the caller may bring parcels where no delivery token is asked for, and ask for
        people by name."""
        if self._mode == OPEN:
            return True
        try:
            await self.introduce(call)
        except Refused:
            return False
        return True

    @property
    def by_invitation(self) -> bool:
        """Whether nothing is kept for somebody that has not come here itself."""
        return self._mode != OPEN

    async def check_registration(self, call: Call, *, now: int) -> bytes | None:
        """Before an account is made; the hash of the invite that it uses up, if it needs one.

        Raises Refused `bad-invite`, `not-admitted`.
        """
        if self._mode == INVITE:
            invite = _digest(bytes(call.params.auth.accessToken))
            if not await self._accounts.invite_holds(invite, now=now):
                raise bad_invite()
            return invite
        if self._mode == TOKEN and not self._shows_token(call):
            raise not_admitted()
        return None

    async def look_again(self) -> int:
        """Hang up on devices that were revoked, or whose account was deleted, by another process;
        how many there were."""
        members = self._callers.registered()
        live = await self._accounts.registered(self._callers.devices())
        # One that was introduced before it was registered, at another process, is a member now.
        for device in live:
            for caller in self._callers.of(device):
                caller.registered = True
        gone = members - live
        for device in gone:
            for caller in self._callers.of(device):
                caller.hang_up("device-revoked")
        return len(gone)

    def _shows_token(self, call: Call) -> bool:
        given = _digest(bytes(call.params.auth.accessToken))
        return self._expected is not None and hmac.compare_digest(given, self._expected)


def not_admitted() -> Refused:
    return Refused(
        "not-admitted",
        "this relay keeps things for its members only",
        hint="register an account here, or ask whoever runs the relay",
    )


def _digest(token: bytes) -> bytes:
    return hashlib.sha256(token).digest()
