"""Where contacts' devices are, by the DHT: one lookup of each at a time, and not again at once."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial

from discovery.dht.contact import node_id
from discovery.dht.node import DhtNode
from discovery.dht.publication import open_private_untrusted, open_public_untrusted
from discovery.dht.watching import LookupEvent, Watch
from discovery.resolver import LEADS_PER_SOURCE
from node.delivery.asking import Ask
from node.delivery.limits import DeliveryLimits
from node.engine.delivery_commands import CellsOf, LookUpPeer, ReceiveBundle
from schemas.errors import Fault
from schemas.ids import DeviceKey
from schemas.records import Signed
from transport.supervise import Supervisor

log = logging.getLogger(__name__)


PartWatch = Callable[[str, LookupEvent], None]
"""As `Watch`, with where was looked: "cell 1", "cell 2" (of another day), "public"."""


def _of_part(part: str, watch: PartWatch | None) -> Watch | None:
    return None if watch is None else partial(watch, part)


@dataclass(frozen=True, slots=True)
class _Last:
    """What the last lookup of a device found, and until when (the loop's time) that will do."""

    records: Sequence[Signed]
    until: float
    wait_s: float


class DhtLookups:
    """`ready`: whether the DHT may be asked, once it began. `news`: a newer record has come."""

    def __init__(
        self,
        node: DhtNode,
        ask: Ask,
        limits: DeliveryLimits,
        clock: Callable[[], float],
        ready: Callable[[], Awaitable[bool]],
        news: Callable[[DeviceKey], None],
    ) -> None:
        self._node = node
        self._ask = ask
        self._limits = limits
        self._clock = clock
        self._ready = ready
        self._news = news
        self._loop = asyncio.get_running_loop()
        self._running: dict[DeviceKey, asyncio.Task[Sequence[Signed]]] = {}
        self._last: OrderedDict[DeviceKey, _Last] = OrderedDict()
        self._slots = asyncio.Semaphore(limits.dht_lookups_at_once)
        self._tasks = Supervisor(lambda name: log.error("%s crashed", name))

    async def records(self, device: DeviceKey) -> Sequence[Signed]:
        """Records of `device`, as last looked up or as found now.

        Who gives up waiting does not end the lookup: what it finds is kept, and is news.
        """
        last = self._last.get(device)
        if last is not None and self._loop.time() < last.until:
            return last.records
        task = self._running.get(device)
        if task is None:
            task = self._running[device] = self._loop.create_task(self._find(device))
            task.add_done_callback(lambda done: self._ended(device, done))
        return await asyncio.shield(task)

    def forget(self) -> None:
        """On another network others may answer."""
        self._last.clear()

    async def _look(
        self, device: DeviceKey, watch: PartWatch | None, *, in_public: bool
    ) -> Sequence[Signed]:
        """In cells that only holders of the owner's card know; else in public.

        Who is asked in public learns for whom somebody here looks: whoever gave us a card is
        looked for there only if the user says so (`in_public`).
        """
        if not await self._ready():
            return ()
        now = self._clock()
        cells = await self._ask(CellsOf(device))
        per_cell = await asyncio.gather(
            *(
                self._node.find(
                    cell.id,
                    partial(open_private_untrusted, cell, device, now=now),
                    _of_part(f"cell {number}", watch),
                )
                for number, cell in enumerate(cells, 1)
            )
        )
        found = list(dict.fromkeys(record for records in per_cell for record in records))
        if not found and (in_public or not cells):
            check = partial(open_public_untrusted, device, now=now)
            found = await self._node.find(node_id(device), check, _of_part("public", watch))
        return found[:LEADS_PER_SOURCE]

    async def close(self) -> None:
        running = list(self._running.values())
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    async def find(self, device: DeviceKey, watch: PartWatch | None = None) -> Sequence[Signed]:
        """Asks now, also in public, whatever was found before. Raises Fault."""
        return await self._find(device, watch, in_public=True)

    async def _find(
        self, device: DeviceKey, watch: PartWatch | None = None, *, in_public: bool = False
    ) -> Sequence[Signed]:
        """What is new is kept, and is news."""
        async with self._slots:
            found = await self._look(device, watch, in_public=in_public)
        self._remember(device, found)
        if found:
            before = (await self._ask(LookUpPeer(device))).endpoint
            await self._ask(ReceiveBundle(None, tuple(found)))
            if (await self._ask(LookUpPeer(device))).endpoint != before:
                self._news(device)
        return found

    def _remember(self, device: DeviceKey, found: Sequence[Signed]) -> None:
        limits, last = self._limits, self._last.pop(device, None)
        wait_s = limits.dht_look_first_s
        if last is not None and set(last.records) == set(found):
            wait_s = min(last.wait_s * 2, limits.dht_look_last_s)
        self._last[device] = _Last(found, self._loop.time() + wait_s, wait_s)
        if len(self._last) > limits.devices_remembered:
            self._last.popitem(last=False)

    def _ended(self, device: DeviceKey, task: asyncio.Task[Sequence[Signed]]) -> None:
        del self._running[device]
        if not task.cancelled() and (error := task.exception()) is not None:
            level = logging.INFO if isinstance(error, Fault) else logging.ERROR
            log.log(level, "a lookup in the DHT failed: %s", error)
