"""Asks for the parts of services that were announced incompletely; few at a time."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Final

import zeroconf
from zeroconf.asyncio import AsyncServiceInfo, AsyncZeroconf

from discovery.mdns_service import SERVICE_TYPE

_WAITING: Final = 64
_AT_ONCE: Final = 4
_PATIENCE_MS: Final = 3000


class LookUps:
    """`found` gets each service that is whole then; `lookups-full`, `unresolved` are counted."""

    def __init__(self, dropped: Counter[str], found: Callable[[AsyncServiceInfo], None]) -> None:
        self._dropped = dropped
        self._found = found
        self._queue: asyncio.Queue[str] = asyncio.Queue(_WAITING)
        self._looking: set[str] = set()

    def want(self, name: str) -> None:
        """Ask for instance `name`, when there is room."""
        if name in self._looking:
            return
        try:
            self._queue.put_nowait(name)
        except asyncio.QueueFull:
            self._dropped["lookups-full"] += 1
        else:
            self._looking.add(name)

    async def run(self, zc: AsyncZeroconf) -> None:
        """For ever; cancel it."""
        async with asyncio.TaskGroup() as group:
            for _ in range(_AT_ONCE):
                group.create_task(self._look_up(zc))

    async def _look_up(self, zc: AsyncZeroconf) -> None:
        while True:
            name = await self._queue.get()
            try:
                info = AsyncServiceInfo(SERVICE_TYPE, name)
                if await info.async_request(zc.zeroconf, _PATIENCE_MS):
                    self._found(info)
                else:
                    self._dropped["unresolved"] += 1
            except zeroconf.Error:
                self._dropped["unresolved"] += 1
            finally:
                self._looking.discard(name)
