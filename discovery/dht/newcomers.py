"""Those who announced themselves and were not asked yet: bounded, few of each prefix."""

from __future__ import annotations

import asyncio
from collections import Counter

from discovery.dht.contact import DhtContact
from discovery.dht.limits import DhtLimits


class Newcomers:
    """First come, first asked. Being heard of is not being known: only an answer is."""

    def __init__(self, limits: DhtLimits) -> None:
        self._limits = limits
        self._waiting: dict[bytes, DhtContact] = {}
        self._by_prefix: Counter[bytes] = Counter()
        self._some = asyncio.Event()

    def add(self, contact: DhtContact) -> bool:
        """False when there is no room, for it or for its prefix."""
        if contact.id in self._waiting:
            return True
        full = len(self._waiting) >= self._limits.newcomers
        if full or self._by_prefix[contact.prefix or b""] >= self._limits.per_prefix:
            return False
        self._waiting[contact.id] = contact
        if contact.prefix is not None:
            self._by_prefix[contact.prefix] += 1
        self._some.set()
        return True

    def take(self) -> list[DhtContact]:
        taken = list(self._waiting.values())
        self._waiting.clear()
        self._by_prefix.clear()
        self._some.clear()
        return taken

    async def wait(self) -> None:
        """Until there is somebody."""
        await self._some.wait()
