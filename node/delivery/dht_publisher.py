"""Our endpoint record in the DHT: put there, again before those who keep it are gone, and anew."""

from __future__ import annotations

import asyncio

from discovery.dht.limits import DEFAULT_DHT_LIMITS
from discovery.dht.node import DhtNode
from discovery.dht.publication import Publication
from node.delivery.asking import Ask
from node.delivery.limits import DeliveryLimits
from node.engine.commands import OwnPublications
from schemas.dht import DhtValue
from schemas.records import EndpointRecord


class DhtPublisher:
    """`until`: Unix seconds, when the first of our values ends; `kept_by`: how many nodes."""

    def __init__(self, node: DhtNode, ask: Ask, limits: DeliveryLimits, *, public: bool) -> None:
        self._node = node
        self._ask = ask
        self._limits = limits
        self._public = public
        self._stir = asyncio.Event()
        self._again_s = limits.dht_publish_first_s
        self.until: float | None = None
        self.kept_by = 0

    def stir(self) -> None:
        """There is something new to publish."""
        self._stir.set()

    async def run(self) -> None:
        """For ever; only its author publishes a record again. Raises the engine's Faults."""
        while True:
            self._stir.clear()
            await self._publish()
            await asyncio.sleep(self._limits.dht_publish_pause_s)
            try:
                async with asyncio.timeout(self._wait_s()):
                    await self._stir.wait()
            except TimeoutError:
                continue

    def _wait_s(self) -> float:
        """The network grows while it begins: those who should keep our record may come yet."""
        if self.kept_by >= DEFAULT_DHT_LIMITS.store_width:
            self._again_s = self._limits.dht_publish_first_s
            return DEFAULT_DHT_LIMITS.republish_s
        wait_s = self._again_s
        self._again_s = min(2 * wait_s, self._limits.dht_publish_last_s)
        return wait_s

    async def _publish(self) -> None:
        until: float | None = None
        kept: list[int] = []
        for each in await self._ask(OwnPublications(self._public)):
            kept.append(await self._node.publish(each.key, each.value))
            ends = self._end_of(each)
            until = ends if until is None else min(until, ends)
        self.kept_by = min(kept, default=0)
        self.until = until if self.kept_by else None

    def _end_of(self, publication: Publication) -> float:
        payload = publication.value.payload
        decode = EndpointRecord.decode if self._public else DhtValue.decode
        return decode(payload).expires
