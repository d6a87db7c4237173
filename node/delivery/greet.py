"""Greeting: a short visit to contacts and members, so that both sides learn what is new."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter

from node.delivery.asking import Ask
from node.delivery.dialer import Dialer
from node.delivery.limits import DeliveryLimits
from node.engine.delivery_commands import PeersToGreet
from schemas.errors import Fault
from schemas.ids import DeviceKey

log = logging.getLogger(__name__)


class Greeter:
    """Dials the devices that the engine wants greeted; the hello on each link does the rest."""

    def __init__(
        self, ask: Ask, dialer: Dialer, limits: DeliveryLimits, counters: Counter[str]
    ) -> None:
        self._ask = ask
        self._dialer = dialer
        self._limits = limits
        self._counters = counters
        self._wanted = asyncio.Event()
        self._slots = asyncio.Semaphore(limits.greet_at_once)

    def greet(self) -> None:
        """Our record is new, or we are: tell those who know us. Several calls make one round."""
        self._wanted.set()

    async def run(self) -> None:
        """For ever; cancel it."""
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            try:
                devices = await self._ask(PeersToGreet(self._limits.greet))
            except Fault as fault:
                self._counters[f"greet-{fault.code}"] += 1
                log.info("nobody was greeted: %s", fault)
                continue
            async with asyncio.TaskGroup() as group:
                for device in devices:
                    group.create_task(self._visit(device))

    async def _visit(self, device: DeviceKey) -> None:
        async with self._slots:
            await self._dialer.reach(device, self._limits.relay_fallback_s, pursue=False)
