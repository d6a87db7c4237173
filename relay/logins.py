"""Logins between their two messages: few, for minutes, and with one try each.

A relay answers the first message of anybody, so what it keeps until the second is bounded: in all,
and for each address prefix. When there are too many, the oldest goes: a login takes a second or
two, and a flood fills its own prefix first.
"""

from __future__ import annotations

import secrets
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from opaque_ke import ServerLogin

from relay.limits import RelayLimits
from relay.store.accounts import Account
from schemas.accounts import LOGIN_ID
from schemas.ids import DeviceKey

PENDING_S: Final = 300.0


@dataclass(frozen=True, slots=True, eq=False)
class PendingLogin:
    """`account` is None when nobody has the name that was given; then no `server` can finish."""

    server: ServerLogin
    account: Account | None
    device: DeviceKey
    prefix: bytes | None
    until: float
    own: bool = False  # the device is one of the account's


class PendingLogins:
    """`clock` gives seconds that only grow. `counters`: begun, and how they ended without a try."""

    def __init__(self, limits: RelayLimits, clock: Callable[[], float]) -> None:
        self._limits = limits
        self._clock = clock
        self._pending: OrderedDict[bytes, PendingLogin] = OrderedDict()  # oldest first
        self._of_prefix: dict[bytes, OrderedDict[bytes, None]] = {}
        self.counters: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._pending)

    def add(
        self,
        server: ServerLogin,
        account: Account | None,
        device: DeviceKey,
        prefix: bytes | None,
        *,
        own: bool = False,
    ) -> bytes:
        """Keep it for PENDING_S; the id by which to `take` it (16 B)."""
        self._drop_expired()
        if prefix is not None:
            place = self._of_prefix.setdefault(prefix, OrderedDict())
            if len(place) >= self._limits.pending_logins_per_prefix:
                self._drop(next(iter(place)), "pushed-out-of-prefix")
        if len(self._pending) >= self._limits.pending_logins:
            self._drop(next(iter(self._pending)), "pushed-out")
        id = secrets.token_bytes(LOGIN_ID)
        until = self._clock() + PENDING_S
        self._pending[id] = PendingLogin(server, account, device, prefix, until, own)
        if prefix is not None:
            self._of_prefix.setdefault(prefix, OrderedDict())[id] = None
        self.counters["begun"] += 1
        return id

    def take(self, id: bytes, device: DeviceKey) -> PendingLogin | None:
        """The login that this device began; it is gone from here, whatever comes of it."""
        self._drop_expired()
        pending = self._pending.get(id)
        if pending is None or pending.device != device:
            return None
        self._forget(id)
        return pending

    def _drop_expired(self) -> None:
        now = self._clock()
        while self._pending:
            oldest, pending = next(iter(self._pending.items()))
            if pending.until > now:
                return
            self._drop(oldest, "expired")

    def _drop(self, id: bytes, reason: str) -> None:
        self._forget(id)
        self.counters[reason] += 1

    def _forget(self, id: bytes) -> None:
        prefix = self._pending.pop(id).prefix
        if prefix is not None:
            place = self._of_prefix[prefix]
            del place[id]
            if not place:
                del self._of_prefix[prefix]
