"""Our endpoint record in the DHT: put there, again before those who keep it are gone, and anew."""

from __future__ import annotations

import asyncio
import logging

from discovery.dht.contact import node_id
from discovery.dht.limits import DEFAULT_DHT_LIMITS
from discovery.dht.node import DhtNode
from discovery.dht.publication import Publication
from node.delivery.asking import Ask
from node.delivery.limits import DeliveryLimits
from node.engine.delivery_commands import OwnPublications
from schemas.dht import DhtValue
from schemas.errors import Fault
from schemas.ids import DeviceKey
from schemas.records import EndpointRecord

log = logging.getLogger(__name__)


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
        """For ever; only its author publishes a record again. What fails is tried again."""
        while True:
            self._stir.clear()
            kept_by = await self._try_to_publish()
            await asyncio.sleep(self._limits.dht_publish_pause_s)
            try:
                async with asyncio.timeout(self._wait_s(kept_by)):
                    await self._stir.wait()
            except TimeoutError:
                continue

    def _wait_s(self, kept_by: int) -> float:
        """The network grows while it begins: those who should keep our record may come yet."""
        if kept_by >= DEFAULT_DHT_LIMITS.store_width:
            self._again_s = self._limits.dht_publish_first_s
            return DEFAULT_DHT_LIMITS.republish_s
        wait_s = self._again_s
        self._again_s = min(2 * wait_s, self._limits.dht_publish_last_s)
        return wait_s

    async def _try_to_publish(self) -> int:
        """How many nodes keep it now; 0 after a failure, for what is tried again soon."""
        try:
            await self._publish()
        except Fault as fault:
            self._node.counts[f"publish-{fault.code}"] += 1
            log.warning("our record is not published: %s", fault)
            return 0
        return self.kept_by

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
        payload, signer = publication.value.payload, publication.value.signer
        plain = publication.key == node_id(DeviceKey(signer))
        return (EndpointRecord if plain else DhtValue).decode(payload).expires
