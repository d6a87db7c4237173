"""Keeps this node announced: what it says, under labels that change, on adapters that come and go.

A label is 64 random bits, so nobody is asked first whether it is free (RFC 6762, section 8.1, has
that for names that might be taken); it goes out at once. An advert for everyone keeps its label for
the life of the Announcer; one for contacts gets another every quarter of an hour and whenever the
network changes, and the old one says goodbye.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import secrets
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import zeroconf
from zeroconf.asyncio import AsyncServiceInfo, AsyncZeroconf

from discovery.lan_tags import day_of
from discovery.mdns_service import SERVICE_TYPE, Advert, describe
from schemas.errors import Blame, Fault

ROTATE_S: Final = 900.0
_RETRY_S: Final = 30.0
# A new IPv6 address cannot be used until its network was asked whether anybody has it (RFC 4862,
# 5.4): about two seconds, in which a socket cannot be bound to it.
_SETTLE_S: Final = 1.0
_SETTLE_TURNS: Final = 4


@dataclass(frozen=True, slots=True)
class _Said:
    info: AsyncServiceInfo
    advert: Advert


class Announcer:
    """`fault` is the last failure to announce, or None. `clock` gives Unix seconds.

    `adapters_changed` is called when there are sockets on other adapters than before.
    """

    def __init__(
        self,
        advert: Advert | None,
        clock: Callable[[], float],
        adapters_changed: Callable[[], None],
    ) -> None:
        self._advert = advert
        self._clock = clock
        self._adapters_changed = adapters_changed
        self._stir = asyncio.Event()
        self._announced = asyncio.Event()
        self._own: dict[str, None] = {}  # instances of ours, the last two
        self.fault: Fault | None = None

    @property
    def advert(self) -> Advert | None:
        return self._advert

    def is_own(self, instance: str) -> bool:
        return instance in self._own

    def say(self, advert: Advert | None) -> None:
        """This from now on, or nothing any more; and look which adapters there are."""
        self._advert = advert
        self._announced.clear()
        self._stir.set()

    async def wait_announced(self) -> None:
        """Returns once the latest advert (or its withdrawal) is out on the LAN."""
        await self._announced.wait()

    async def run(self, zc: AsyncZeroconf) -> None:
        """For ever; cancel it."""
        said: _Said | None = None
        for turn in itertools.count():
            self._stir.clear()
            advert = self._advert
            try:
                if turn:
                    await self._follow_adapters(zc)
                said = await self._say(zc, advert, said)
                self.fault = None
                if advert is self._advert:
                    self._announced.set()
                wait_s = None if advert is None or advert.secret is None else self._lifetime_s()
            except (zeroconf.Error, OSError, TimeoutError) as error:
                self.fault = Fault(
                    "mdns-announce-failed",
                    f"This node is not visible on the LAN: {type(error).__name__}",
                    blame=Blame.ENVIRONMENT,
                    hint=f"It is tried again every {_RETRY_S:.0f} s.",
                )
                wait_s = _RETRY_S
            if await self._settle(zc):
                continue
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._stir.wait()

    def _lifetime_s(self) -> float:
        """Of a label; not the same for all nodes that were started together."""
        return ROTATE_S * random.uniform(0.8, 1.2)  # noqa: S311 - hides nothing

    async def _settle(self, zc: AsyncZeroconf) -> bool:
        """Adapters that just came get their sockets; True when there is news meanwhile."""
        for _ in range(_SETTLE_TURNS):
            with suppress(TimeoutError):
                async with asyncio.timeout(_SETTLE_S):
                    await self._stir.wait()
                return True
            with suppress(zeroconf.Error, OSError, TimeoutError):
                await self._follow_adapters(zc)
        return False

    async def _follow_adapters(self, zc: AsyncZeroconf) -> None:
        engine = zc.zeroconf.engine
        before = {sender.interface_key for sender in engine.senders}
        await zc.async_update_interfaces()
        if {sender.interface_key for sender in engine.senders} != before:
            self._adapters_changed()

    async def _say(
        self, zc: AsyncZeroconf, advert: Advert | None, said: _Said | None
    ) -> _Said | None:
        """Makes the LAN know `advert`; returns what is registered now."""
        if advert is None:
            if said is not None:
                await (await zc.async_unregister_service(said.info))
            return None
        day = day_of(self._clock())
        if said is not None and said.advert.secret is None and advert.secret is None:
            info = describe(said.info.name.removesuffix(f".{SERVICE_TYPE}"), advert, day)
            await (await zc.async_update_service(info))
            return _Said(info, advert)
        info = describe(secrets.token_hex(8), advert, day)
        self._own[info.key] = None
        while len(self._own) > 2:
            del self._own[next(iter(self._own))]
        await (await zc.async_register_service(info, cooperating_responders=True))
        if said is not None:
            await (await zc.async_unregister_service(said.info))
        return _Said(info, advert)
