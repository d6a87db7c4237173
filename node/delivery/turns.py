"""Turns among couriers: who has just woken goes first, then those with more, one after another."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Turns:
    """At most `at_once` hold a turn; the others wait, newcomers before those who had one."""

    def __init__(self, at_once: int) -> None:
        self._free = at_once
        self._newcomers: deque[asyncio.Future[None]] = deque()
        self._again: deque[asyncio.Future[None]] = deque()

    @asynccontextmanager
    async def turn(self, *, newcomer: bool) -> AsyncIterator[None]:
        await self._wait(self._newcomers if newcomer else self._again)
        try:
            yield
        finally:
            self._pass_on()

    async def _wait(self, line: deque[asyncio.Future[None]]) -> None:
        if self._free:
            self._free -= 1
            return
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        line.append(place)
        try:
            await place
        except asyncio.CancelledError:
            if place in line:
                line.remove(place)
            elif not place.cancelled():
                self._pass_on()  # it was given to us just then
            raise

    def _pass_on(self) -> None:
        for line in (self._newcomers, self._again):
            while line:
                place = line.popleft()
                if not place.done():
                    place.set_result(None)
                    return
        self._free += 1
