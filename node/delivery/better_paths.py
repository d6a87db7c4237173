"""Links move: to the LAN where one leads there, and after us when this machine moved."""

from __future__ import annotations

import asyncio
import logging
import math
from collections import Counter
from weakref import WeakKeyDictionary

from discovery.resolver import Resolver
from discovery.scope import NetworksNow
from node.delivery.dialer import Dialer
from node.delivery.limits import DeliveryLimits
from node.delivery.link import Link
from node.delivery.links import Links
from node.delivery.path_rules import PathRules
from schemas.addresses import Address
from schemas.errors import Fault
from schemas.ids import DeviceKey
from transport.supervise import Supervisor

log = logging.getLogger(__name__)


class BetterPaths:
    """A better link is dialled beside the old one, which finishes what is under way on it."""

    def __init__(
        self,
        links: Links,
        dialer: Dialer,
        resolver: Resolver,
        rules: PathRules,
        networks: NetworksNow,
        limits: DeliveryLimits,
        counters: Counter[str],
    ) -> None:
        self._links = links
        self._dialer = dialer
        self._resolver = resolver
        self._rules = rules
        self._networks = networks
        self._limits = limits
        self._counters = counters
        self._moving: set[DeviceKey] = set()
        self._failed_at: WeakKeyDictionary[Link, float] = WeakKeyDictionary()
        self._loop = asyncio.get_running_loop()
        self._tasks = Supervisor(lambda name: counters.update([f"{name}-crashed"]))

    async def run(self) -> None:
        """For ever: look now and then."""
        while True:
            await asyncio.sleep(self._limits.better_path_s)
            for link in self._links.all():
                await self._improve(link.peer)

    def news(self, device: DeviceKey) -> None:
        """Discovery heard something of the device."""
        if self._links.get(device) is not None:
            self._tasks.start(self._improve(device), name="better-path")

    def moved(self) -> None:
        """This machine is on another network: each link is proven there, or made anew.

        QUIC's client may move and its server may not (RFC 9000, 9): the peer of a link that we
        dialled follows us at our next packet, one that dialled us has to be dialled.
        """
        for link in self._links.all():
            step = self._prove(link) if link.dialed else self._dial_anew(link)
            self._tasks.start(step, name="moved")

    async def close(self) -> None:
        await self._tasks.close(0)

    async def _improve(self, device: DeviceKey) -> None:
        """Over the LAN, if discovery knows a way there and the link goes elsewhere."""
        link = self._links.get(device)
        networks = self._networks()
        if link is None or networks.on_link(link.connection.remote.host):
            return
        failed_at = self._failed_at.get(link, -math.inf)
        if self._loop.time() - failed_at < self._limits.better_path_s:
            return  # anybody on the LAN can claim to be that device, again and again
        known = await self._resolver.resolve(device, deadline_s=self._limits.quick_resolve_s)
        self._dialer.candidates.found(device, known.found, all_there_is=False)
        addresses = [found.address.address for found in known.found]
        near = [address for address in addresses if networks.on_link(address.host)]
        if near and not await self._replace(link, near):
            self._failed_at[link] = self._loop.time()

    async def _replace(self, link: Link, addresses: list[Address]) -> bool:
        """False when that failed: says nothing about the link that there is."""
        device = link.peer
        if device in self._moving:
            return True
        self._moving.add(device)
        try:
            policy = await self._rules.of(device)
            if not policy.hides_address:
                await self._dialer.dial(device, addresses, policy, instead_of=link)
        except Fault as fault:
            self._counters[f"better-path-{fault.code}"] += 1
            log.debug("no other path to %r: %s", device, fault)
            return False
        finally:
            self._moving.discard(device)
        return True

    async def _dial_anew(self, link: Link) -> None:
        """Where it was; a peer behind a NAT is not heard from there, and has to be met."""
        try:
            async with asyncio.timeout(2 * self._proof_s(link)):
                if not await self._replace(link, [link.connection.remote]):
                    await self._prove(link)
        except TimeoutError:
            self._lost(link)

    async def _prove(self, link: Link) -> None:
        try:
            await link.connection.ping(self._proof_s(link))
        except Fault:
            self._lost(link)

    def _proof_s(self, link: Link) -> float:
        limits, round_trips = self._limits, 4 * link.connection.round_trip_s
        return min(limits.moved_proof_s, max(limits.moved_proof_least_s, round_trips))

    def _lost(self, link: Link) -> None:
        if not link.closed:
            self._counters["link-lost-in-moving"] += 1
            link.close("no answer on this path")
            self._dialer.news(link.peer)
