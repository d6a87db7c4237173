"""A mapping by UPnP: the search, then the library that speaks to what was found."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from typing import TYPE_CHECKING

from schemas.addresses import Address
from schemas.errors import Unreachable

from .ssdp import find_description
from .values import Gateway, Grant, MappingLimits, MappingProtocol

if TYPE_CHECKING:
    from .igd import WanConnection

_TRIES = 3  # of external ports: somebody else behind this router may have ours
_LOWEST_PORT = 1_024


class UpnpClient:
    """A MappingClient (see values)."""

    protocol = MappingProtocol.UPNP

    def __init__(
        self, gateway: Gateway, port: int, limits: MappingLimits, counters: Counter[str]
    ) -> None:
        self._gateway = gateway
        self._port = port
        self._limits = limits
        self._counters = counters
        self._wish = port
        self._connection: WanConnection | None = None

    async def ask(self, lifetime_s: int) -> Grant:
        try:
            async with asyncio.timeout(self._limits.upnp_s):
                return await self._ask(lifetime_s)
        except TimeoutError:
            raise Unreachable("no-answer", "the router's UPnP does not answer in time") from None

    async def _ask(self, lifetime_s: int) -> Grant:
        connection, self._connection = self._connection, None
        if connection is None:
            connection = await self._find()
        host = await connection.external_host()
        for tries_left in reversed(range(_TRIES)):
            if await connection.map(
                self._wish, self._gateway.own, self._port, lifetime_s, last=not tries_left
            ):
                break
            self._wish = random.randint(_LOWEST_PORT, 65_535)  # noqa: S311 - no secret
        self._connection = connection  # kept only if all went well: else it is looked up anew
        return Grant(Address(host, self._wish), lifetime_s)

    async def release(self) -> None:
        if self._connection is not None:
            await self._connection.unmap(self._wish)

    async def _find(self) -> WanConnection:
        url = await find_description(self._gateway, self._limits, self._counters)
        await asyncio.to_thread(_load)
        from .igd import find_connection

        return await find_connection(url, self._gateway.host, self._limits)


def _load() -> None:
    """The library takes 0.3 s and 20 MB: only where a router has answered, off the loop."""
    from . import igd  # noqa: F401
