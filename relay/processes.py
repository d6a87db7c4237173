"""This process among those that share its database: it says that it is here, and knows all."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from relay.store.moved import WAS_MOVED
from relay.store.processes import HEARTBEAT_S, LIVE_S, Process, Processes
from relay.upkeep import Upkeep
from schemas.addresses import Address
from schemas.errors import Fault
from schemas.limits import RELAY_PROCESSES

log = logging.getLogger(__name__)

HEARTBEAT = "heartbeat"
_WITHDRAW_S = 2.0  # a database that is gone does not hold up the end


class Membership:
    """`told` is what nodes are to know of this relay's processes. Times: see Processes."""

    def __init__(
        self, store: Processes, address: Address, version: str, upkeep: Upkeep, *, named: bool
    ) -> None:
        """`named`: the operator says that nodes reach it at this address."""
        self._store = store
        self._address = address
        self._version = version
        self._upkeep = upkeep
        self._named = named
        self._run = os.urandom(16)
        self._replaced = False
        self.known: list[Process] = []
        self._shut_out = asyncio.Event()
        self._why: Fault | None = None

    @property
    def live(self) -> list[Address]:
        """Those that answer now; this one at least."""
        return [each.address for each in self.known if each.live] or [self._address]

    @property
    def told(self) -> list[Address]:
        """Also those that are being restarted; none while this one was the only one for long, and
        may be known by another address than it believes."""
        if len(self.known) <= 1 and not self._named:
            return []
        return [each.address for each in self.known if each.expected][:RELAY_PROCESSES]

    @asynccontextmanager
    async def announced(self) -> AsyncIterator[None]:
        """For the length of the block the others know of this process. Raises as `announce`."""
        await self._announce()
        beating = self._upkeep.start(HEARTBEAT, self._beat)
        try:
            yield
        finally:
            beating.cancel()
            await asyncio.gather(beating, return_exceptions=True)
            with suppress(Fault, TimeoutError):
                async with asyncio.timeout(_WITHDRAW_S):
                    await self._store.withdraw(self._address, self._run)

    async def until_shut_out(self) -> None:
        """Waits for as long as this process may go on. Raises Refused `moved-away`."""
        await self._shut_out.wait()
        assert self._why is not None
        raise self._why

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(HEARTBEAT_S)
            try:
                async with asyncio.timeout(LIVE_S):
                    await self._announce()
                self._upkeep.got_through(HEARTBEAT)
            except (Fault, TimeoutError) as why:
                if isinstance(why, Fault) and why.code == WAS_MOVED:
                    self._why = why
                    self._shut_out.set()
                    return
                self._upkeep.held_up(HEARTBEAT, why, "the other processes do not hear of this one")

    async def _announce(self) -> None:
        before = {each.address for each in self.known if each.live}
        self.known = await self._store.announce(self._address, self._run, self._version)
        now = {each.address for each in self.known if each.live}
        if before and now != before:
            log.info("processes of this relay: %s", ", ".join(map(str, self.live)))
        replaced = all(each.run != self._run for each in self.known)
        if replaced and not self._replaced:
            log.error(
                "another process says that it is at %s: give each its own with --advertise",
                self._address,
            )
        self._replaced = replaced
