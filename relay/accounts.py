"""Accounts: registration and login by OPAQUE (RFC 9807), sessions, and the devices of an account.

The relay never learns a password. A login is bound to the two keys that TLS has proven, so that
its messages are worth nothing on another connection; so is the session's token. Whoever gives a
name that nobody has is answered as one who gives a wrong password is: the same work, the same
bytes, and the refusal only at the end.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, TypeVar

from opaque_ke import KSF_LATEST, KSF_VERSIONS, OpaqueError, ServerSetup, check_record

from relay.callers import Caller, Callers
from relay.guesses import Guesses
from relay.limits import HOUR_S, RelayLimits
from relay.logins import PendingLogins
from relay.refusals import too_many_logins
from relay.store.accounts import (
    Account,
    AccountCounts,
    AccountStore,
    RegisteredDevice,
    Session,
    name_taken,
)
from relay.subscriptions import Subscriptions
from schemas.accounts import ACCESS_TOKEN, framed, login_context
from schemas.errors import Blame, Malformed, Refused
from schemas.ids import DeviceKey, IdentityKey
from transport.rate import Buckets

SESSION_S: Final = 86400
CLOCK_SKEW_S: Final = 300  # between the machines of one relay; a clock set back further ends tokens

K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Token:
    """What a login gives: 32 random bytes, of which the relay keeps a hash, until `expires`."""

    secret: bytes
    expires: int


class Accounts:
    """What the methods do, on plain values. They raise Refused and TryLater.

    `clock` gives Unix seconds, `steady` seconds that only grow. `counts` is as of the last `count`.
    """

    def __init__(
        self,
        store: AccountStore,
        relay: DeviceKey,
        callers: Callers,
        subscriptions: Subscriptions,
        *,
        limits: RelayLimits,
        clock: Callable[[], float],
        steady: Callable[[], float],
    ) -> None:
        self._store = store
        self._relay = relay
        self._callers = callers
        self._subscriptions = subscriptions
        self._limits = limits
        self._clock = clock
        self._steady = steady
        self._setup: ServerSetup | None = None
        self._registrations = Buckets[bytes](
            limits.prefix_registrations_per_hour / HOUR_S, limits.prefix_registrations_burst
        )
        self._logins = Buckets[bytes](
            limits.prefix_logins_per_hour / HOUR_S, limits.prefix_logins_burst
        )
        self._guesses = Guesses(limits, steady)
        self.pending = PendingLogins(limits, steady)
        self.counts = AccountCounts()

    # Registration

    async def start_registration(
        self, caller: Caller, name: str, ksf: int, request: bytes
    ) -> bytes:
        """OPAQUE's answer, framed. Raises Refused `name-taken`, `unsupported-ksf`; TryLater."""
        _check_ksf(ksf)
        self._use(self._registrations, caller.prefix)
        self._guesses.use(name, caller.prefix)
        # For a name that is taken, this would answer guesses of its password.
        if await self._store.account(name) is not None:
            raise name_taken()
        setup = await self._set_up()
        with _blaming_the_peer():
            return framed(ksf, setup.registration_response(request, name.encode()))

    async def finish_registration(
        self,
        caller: Caller,
        name: str,
        identity: IdentityKey,
        ksf: int,
        upload: bytes,
        device_name: str,
        *,
        invite: bytes | None,
    ) -> None:
        """Make the account, with the caller's device in it; `invite` is the hash of one to use up.

        Raises Refused `name-taken`, `identity-taken`, `device-taken`, `bad-invite`,
        `accounts-full`, `unsupported-ksf`; TryLater.
        """
        _check_ksf(ksf)
        self._use(self._registrations, caller.prefix)
        with _blaming_the_peer():
            record = framed(ksf, check_record(upload))
        await self._store.register(
            Account(name, identity, record),
            caller.device,
            device_name,
            invite=invite,
            most=self._limits.accounts,
            now=self._now(),
        )
        self._admitted(caller.device)

    # Login

    async def start_login(
        self, caller: Caller, name: str, ksf: int, request: bytes
    ) -> tuple[bytes, bytes]:
        """(id of the login, OPAQUE's framed answer). Raises Refused `unsupported-ksf`; TryLater."""
        _check_ksf(ksf)
        self._use(self._logins, caller.prefix)
        account = await self._store.account(name)
        own = await self._is_own(caller.device, account)
        self._guesses.use(name, caller.device if own else caller.prefix, own=own)
        setup = await self._set_up()
        record = None if account is None else account.record[1:]
        version = KSF_LATEST if account is None else account.record[0]
        context = login_context(self._relay, caller.device)
        with _blaming_the_peer():
            server = setup.login_start(record, request, name.encode(), context=context)
        login = self.pending.add(server, account, caller.device, caller.prefix, own=own)
        return login, framed(version, server.response)

    async def finish_login(self, caller: Caller, login: bytes, finalization: bytes) -> Token:
        """A session for the caller's device, which replaces the one that it had.

        Raises Refused `login-failed`, whatever the reason.
        """
        pending = self.pending.take(login, caller.device)
        if pending is None:
            raise _login_failed()
        try:
            pending.server.finish(finalization)
        except OpaqueError:
            raise _login_failed() from None
        secret, now = secrets.token_bytes(ACCESS_TOKEN), self._now()
        token = Token(secret, now + SESSION_S)
        if pending.account is None or not await self._store.start_session(
            pending.account, caller.device, _hash(secret), issued=now, expires=token.expires
        ):
            raise _login_failed()
        by = pending.device if pending.own else pending.prefix
        self._guesses.was_right(pending.account.name, by, own=pending.own)
        return token

    async def session(self, device: DeviceKey, token: bytes) -> Session:
        """The session that `token` and `device` have together. Raises Refused `not-logged-in`."""
        session = await self._store.session(device)
        same = hmac.compare_digest(b"" if session is None else session.token, _hash(token))
        if session is None or not same:
            raise _not_logged_in()
        now = self._now()
        if not session.issued - CLOCK_SKEW_S <= now < session.expires:
            # Else a clock that goes back would bring it back.
            await self._store.end_session(device)
            raise _not_logged_in()
        return session

    # Devices

    async def add_device(self, session: Session, device: DeviceKey, name: str) -> None:
        """Raises Refused `device-taken`, `too-many-devices`, `no-account`."""
        most = self._limits.devices_per_account
        await self._store.add_device(session.identity, device, name, most=most, now=self._now())
        self._admitted(device)

    async def devices(self, session: Session) -> list[RegisteredDevice]:
        return await self._store.devices(session.identity)

    async def revoke_device(self, session: Session, caller: Caller, device: DeviceKey) -> None:
        """Forget what is kept for it, and shut it out. Raises Refused `no-such-device`."""
        if not await self._store.revoke_device(session.identity, device, now=self._now()):
            raise Refused(
                "no-such-device",
                "your account has no such device",
                hint="list the devices of the account",
            )
        self._shut_out(device, caller)

    async def delete(self, session: Session, caller: Caller) -> None:
        """Forget the account and all that is kept for its devices. Raises Refused `no-account`."""
        for device in await self._store.delete(session.identity, now=self._now()):
            self._shut_out(device, caller)

    async def count(self) -> None:
        """Bring `counts` up to date."""
        self.counts = await self._store.counts(now=self._now())

    # Inside

    def _now(self) -> int:
        return int(self._clock())

    async def _set_up(self) -> ServerSetup:
        if self._setup is None:
            fresh = ServerSetup.generate().to_bytes()
            self._setup = ServerSetup.from_bytes(await self._store.server_setup(fresh))
        return self._setup

    async def _is_own(self, device: DeviceKey, account: Account | None) -> bool:
        """Whether the device is one of the account's."""
        standing = await self._store.standing(device)
        if standing is None or account is None:
            return False
        return standing.identity == account.identity and not standing.revoked

    def _admitted(self, device: DeviceKey) -> None:
        for caller in self._callers.of(device):
            self._callers.keep(caller, registered=True)

    def _shut_out(self, device: DeviceKey, by: Caller) -> None:
        """End the device's connections; who asked for it must hear the answer first."""
        for caller in self._callers.of(device):
            if caller is by:
                caller.forget()
                self._subscriptions.end_caller(caller, "device-revoked")
            else:
                caller.hang_up("device-revoked")

    def _use(self, buckets: Buckets[K], key: K | None) -> None:
        if key is None:
            return
        bucket, now = buckets.of(key), self._steady()
        wait_s = bucket.wait_s(now)
        if wait_s:
            raise too_many_logins(wait_s)
        bucket.use(1, now)


@contextmanager
def _blaming_the_peer() -> Iterator[None]:
    try:
        yield
    except OpaqueError as error:
        raise Malformed("malformed-request", "not a valid message of OPAQUE") from error


def _check_ksf(version: int) -> None:
    if version not in KSF_VERSIONS:
        raise Refused(
            "unsupported-ksf",
            f"this relay does not know version {version} of the key stretching",
            blame=Blame.INCOMPATIBLE,
            hint="upgrade whichever of the two is older",
        )


def _hash(token: bytes) -> bytes:
    return hashlib.sha256(token).digest()


def _login_failed() -> Refused:
    return Refused(
        "login-failed",
        "no account has this name and this password, or the login took too long",
        hint="check both, and try again",
    )


def _not_logged_in() -> Refused:
    return Refused(
        "not-logged-in",
        "this needs a login of this device, which lasts a day",
        hint="log in again",
    )
