"""Whether the peers on the LAN are still there: who is quiet is asked, who is silent is gone."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Final

from discovery.lan_events import Peer, PeerChange
from discovery.mdns import Mdns
from node.delivery.limits import DeliveryLimits
from node.delivery.link import Link
from node.delivery.links import Links
from schemas.errors import Unreachable
from schemas.ids import DeviceKey
from transport import Address, ConnectionLost, Prober
from transport.supervise import Supervisor

_TIMER_SLACK_S: Final = 0.01
_ABSENT: Final = 64  # peers that are asked for though they are gone


class Presence:
    """Each peer that mDNS shows is asked again `lan_quiet_s` after its last sign of life.

    Whom we are linked to is asked over the link, which carries its traffic: nothing is asked while
    there is any. Others get a Prober's packet. Who is silent for `lan_silent_s` is forgotten, and
    asked for less and less often: it may only have been unplugged, or somebody else said goodbye
    in its name.
    """

    def __init__(
        self, mdns: Mdns, prober: Prober, limits: DeliveryLimits, counters: Counter[str]
    ) -> None:
        self._mdns = mdns
        self._prober = prober
        self._limits = limits
        self._counters = counters
        self._loop = asyncio.get_running_loop()
        self._followed: dict[DeviceKey, asyncio.Event] = {}  # set when it appears or disappears
        self._answered_at: dict[DeviceKey, Address] = {}
        self._absent = 0
        self._tasks = Supervisor(lambda name: counters.update([f"{name}-crashed"]))

    async def run(self, links: Links) -> None:
        """For ever; cancel it, then `close`."""
        with self._mdns.watch() as events:
            async for event in events:
                device = event.peer.device
                news = self._followed.get(device)
                if news is not None:
                    news.set()
                elif event.change is not PeerChange.DISAPPEARED:
                    self._followed[device] = asyncio.Event()
                    self._tasks.start(self._follow(device, links), name="presence")

    async def close(self) -> None:
        await self._tasks.close(0)

    async def _follow(self, device: DeviceKey, links: Links) -> None:
        try:
            while (last := self._mdns.find(device)) is not None:
                last = await self._while_here(last, links)
                if not await self._comes_back(last, links):
                    return
        finally:
            del self._followed[device]
            self._answered_at.pop(device, None)

    async def _while_here(self, last: Peer, links: Links) -> Peer:
        """What it was when it was taken off the table, or took itself off."""
        device = last.device
        while True:
            await asyncio.sleep(self._until_quiet_s(links.get(device)))
            found = self._mdns.find(device)
            if found is None:
                return last
            last = found
            if await self._is_there(last, links):
                self._mdns.touch(device)
            else:
                self._counters["lan-peer-silent"] += 1
                self._mdns.forget(device)
                return last

    async def _comes_back(self, last: Peer, links: Links) -> bool:
        """Whether it is on the table again, as it was heard or because it answers us."""
        if self._absent >= _ABSENT:
            self._counters["lan-absent-full"] += 1
            return False
        self._absent += 1
        try:
            return await self._ask_the_absent(last, links)
        finally:
            self._absent -= 1

    async def _ask_the_absent(self, last: Peer, links: Links) -> bool:
        wait = self._limits.lan_absent_first_s
        while wait <= self._limits.lan_absent_last_s:
            if await self._heard_within(wait, last.device):
                return True
            if await self._is_there(last, links):
                self._mdns.revive(last.device)
                return self._mdns.find(last.device) is not None
            wait *= 2
        return False

    async def _heard_within(self, seconds: float, device: DeviceKey) -> bool:
        news = self._followed[device]
        try:
            async with asyncio.timeout(seconds):
                while self._mdns.find(device) is None:
                    news.clear()
                    await news.wait()
        except TimeoutError:
            return False
        return True

    # --- asking one

    async def _is_there(self, peer: Peer, links: Links) -> bool:
        addresses = [each.address for each in peer.addresses]
        link = links.get(peer.device)
        if link is not None and link.connection.remote in addresses:
            return await self._answers(link)
        best = self._answered_at.get(peer.device)
        if best is not None:  # whatever somebody said of it meanwhile
            addresses = list(dict.fromkeys([best, *addresses]))
        answered = await self._prober.probe(addresses, deadline_s=self._limits.lan_silent_s)
        if answered is None:
            return False
        self._answered_at[peer.device] = answered
        return True

    def _until_quiet_s(self, link: Link | None) -> float:
        """Until it is asked, after its last sign of life."""
        quiet = self._limits.lan_quiet_s
        if link is None:
            return quiet
        heard = self._loop.time() - link.connection.last_heard_at
        return quiet - heard if heard < quiet else quiet

    async def _answers(self, link: Link) -> bool:
        heard = self._loop.time() - link.connection.last_heard_at
        if heard + _TIMER_SLACK_S < self._limits.lan_quiet_s:
            return True
        try:
            await link.connection.ping(self._limits.lan_silent_s)
        except (Unreachable, ConnectionLost):
            self._counters["link-dead"] += 1
            link.close("no answer on the LAN")
            return False
        self._prober.alive(link.connection.remote.host)
        return True
