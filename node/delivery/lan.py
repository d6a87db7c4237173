"""The LAN: we are announced by mDNS, and whom we hear and know is visited."""

from __future__ import annotations

import ipaddress
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack

from discovery.lan_events import PeerChange
from discovery.mdns import Mdns
from discovery.mdns_service import Advert
from node.delivery.asking import Ask
from node.delivery.dialer import Dialer
from node.delivery.limits import DeliveryLimits
from node.engine.commands import LookUpPeer, Retry, WhoAmI
from schemas.addresses import Address
from schemas.errors import Fault
from schemas.ids import DeviceKey
from transport.supervise import Supervisor

log = logging.getLogger(__name__)

AdvertOf = Callable[[], Awaitable[Advert | None]]


def interfaces_for(
    configured: Sequence[str] | None, listen: Address | None
) -> tuple[str, ...] | None:
    """As configured; else where we listen: a node on one address is seen on that one."""
    if configured is not None or listen is None:
        return None if configured is None else tuple(configured)
    everywhere = ipaddress.ip_address(listen.host).is_unspecified if listen.is_literal else True
    return None if everywhere or ":" in listen.host else (listen.host,)


class Lan:
    """Made by the composition with `Mdns` not yet started; `start` never fails for want of one."""

    def __init__(
        self,
        mdns: Mdns,
        ask: Ask,
        limits: DeliveryLimits,
        counters: Counter[str],
        advert: AdvertOf,
    ) -> None:
        self.mdns = mdns
        self._ask = ask
        self._limits = limits
        self._counters = counters
        self._advert = advert
        self._tasks = Supervisor(lambda name: counters.update([f"{name}-crashed"]))

    async def start(self, stack: AsyncExitStack, dialer: Dialer) -> None:
        """Announce and look, for the life of the stack; without multicast: go on without."""
        self.mdns.advertise(await self._advert())
        try:
            await self.mdns.start()
        except Fault as fault:
            self._counters[f"mdns-{fault.code}"] += 1
            log.warning("%s", fault)
            return
        stack.push_async_callback(self.mdns.close)
        stack.push_async_callback(self._tasks.close, 0)
        self._tasks.start(self._watch(dialer), name="lan")

    def moved(self) -> None:
        """We are elsewhere: say so."""
        self._tasks.start(self._advertise(), name="advert")

    def silent(self, device: DeviceKey) -> None:
        """Nobody answers where the LAN says that the device is."""
        if self.mdns.find(device) is not None:
            self.mdns.forget(device)

    async def _advertise(self) -> None:
        try:
            self.mdns.advertise(await self._advert())
        except (Fault, OSError) as error:
            log.info("not announced on the LAN: %s", error)

    async def _watch(self, dialer: Dialer) -> None:
        with self.mdns.watch() as events:
            async for event in events:
                if event.change is PeerChange.DISAPPEARED:
                    continue
                device = event.peer.device
                dialer.news(device)
                try:
                    peer = await self._ask(LookUpPeer(device))
                    if peer.identity is None:
                        continue  # a stranger: shown, not visited
                    await self._ask(Retry(device))
                except Fault as fault:
                    log.debug("LAN peer %r: %s", device, fault)
                    continue
                self._tasks.start(self._visit(dialer, device), name="visit")

    async def _visit(self, dialer: Dialer, device: DeviceKey) -> None:
        await dialer.reach(device, self._limits.relay_fallback_s, pursue=False)


async def advert_of(ask: Ask, device: DeviceKey, addresses: Sequence[Address]) -> Advert | None:
    """What the LAN is told of us; None while we have no address."""
    me = await ask(WhoAmI())
    return Advert(device, me.name, tuple(addresses)) if addresses else None
