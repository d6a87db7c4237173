"""The LAN: we are announced by mDNS, and whom we hear and know is visited."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from typing import Final

from discovery.lan_events import PeerChange, PeerEvent
from discovery.lan_tags import Acquaintance
from discovery.mdns import Mdns
from discovery.mdns_service import Advert
from node.delivery.asking import Ask
from node.delivery.dialer import Dialer
from node.delivery.lan_presence import Presence
from node.delivery.limits import DeliveryLimits
from node.delivery.links import Links
from node.delivery.rates import Rates
from node.engine.commands import ListPathPolicies, WhoAmI
from node.engine.delivery_commands import LookUpPeer, ReadDiscoverySecrets, Retry
from node.engine.values import Event, PeerView
from schemas.addresses import Address
from schemas.errors import Fault
from schemas.ids import DeviceKey
from schemas.visibility import LanVisibility
from transport import Prober
from transport.supervise import Supervisor
from transport.udp import Bind

log = logging.getLogger(__name__)

_KINDS: Final = {
    PeerChange.APPEARED: "peer-appeared",
    PeerChange.CHANGED: "peer-changed",
    PeerChange.DISAPPEARED: "peer-gone",
}

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
    """Made by the composition with `Mdns` not yet started; `start` never fails for want of one.

    `announce` gets the events `peer-appeared`, `peer-changed` and `peer-gone`.
    """

    def __init__(
        self,
        mdns: Mdns,
        ask: Ask,
        limits: DeliveryLimits,
        counters: Counter[str],
        advert: AdvertOf,
        announce: Callable[[Event], None],
    ) -> None:
        self.mdns = mdns
        self._ask = ask
        self._limits = limits
        self._counters = counters
        self._advert = advert
        self._announce = announce
        self._visiting: set[DeviceKey] = set()
        self._retries = Rates(
            burst=1,
            every_s=limits.lan_retry_every_s,
            remembered=limits.devices_remembered,
            clock=asyncio.get_running_loop().time,
        )
        self._tasks = Supervisor(lambda name: counters.update([f"{name}-crashed"]))

    async def start(
        self, stack: AsyncExitStack, dialer: Dialer, links: Links, bind: Bind | None
    ) -> None:
        """Announce and look, for the life of the stack; without multicast: wait for some."""
        self.mdns.advertise(await self._advert())
        await self._learn()
        prober = await Prober.open(bind=bind, counters=self._counters)
        stack.callback(prober.close)
        presence = Presence(self.mdns, prober, self._limits, self._counters)
        stack.push_async_callback(presence.close)
        stack.push_async_callback(self.mdns.close)
        stack.push_async_callback(self._tasks.close, 0)
        self._tasks.start(self._watch(dialer), name="lan")
        self._tasks.start(presence.run(links), name="presence")
        await self._open()

    def moved(self) -> None:
        """We are elsewhere: say so."""
        self._tasks.start(self._advertise(), name="advert")

    def contacts_changed(self) -> None:
        """Others are to be recognised than before."""
        self._tasks.start(self._learn(), name="acquaintances")

    def silent(self, device: DeviceKey) -> None:
        """Nobody answers where the LAN says that the device is."""
        if self.mdns.find(device) is not None:
            self.mdns.forget(device)

    async def _open(self) -> None:
        try:
            await self.mdns.start()
        except Fault as fault:
            self._counters[f"mdns-{fault.code}"] += 1
            log.warning("%s", fault)

    async def _advertise(self) -> None:
        try:
            self.mdns.advertise(await self._advert())
        except (Fault, OSError) as error:
            log.info("not announced on the LAN: %s", error)
        if not self.mdns.running:
            await self._open()  # there was no network

    async def _learn(self) -> None:
        try:
            secrets = await self._ask(ReadDiscoverySecrets())
        except Fault as fault:
            log.info("contacts are not recognised on the LAN: %s", fault)
            return
        self.mdns.know(Acquaintance(*each) for each in secrets.contacts)

    async def _watch(self, dialer: Dialer) -> None:
        with self.mdns.watch() as events:
            async for event in events:
                device = event.peer.device
                try:
                    known = await self._ask(LookUpPeer(device))
                except Fault as fault:
                    log.debug("LAN peer %r: %s", device, fault)
                    continue
                self._tell(event, known)
                if event.change is PeerChange.DISAPPEARED:
                    continue
                dialer.news(device)
                # A stranger is shown, not visited; and anybody may say something new all the time.
                if known.identity is not None and device not in self._visiting:
                    self._visiting.add(device)
                    self._tasks.start(self._visit(dialer, device), name="visit")

    def _tell(self, event: PeerEvent, known: PeerView) -> None:
        fields: dict[str, object] = {
            "device": event.peer.device.hex(),
            "identity": None if known.identity is None else known.identity.hex(),
            "name": known.name or event.peer.name,
            "addresses": [str(each.address) for each in event.peer.addresses],
        }
        self._announce(Event(_KINDS[event.change], fields))

    async def _visit(self, dialer: Dialer, device: DeviceKey) -> None:
        try:
            if not self._retries.take(device):
                await self._ask(Retry(device))
        except Fault as fault:
            log.debug("LAN peer %r: %s", device, fault)
        try:
            await dialer.reach(device, self._limits.relay_fallback_s, pursue=False)
        finally:
            self._visiting.discard(device)


async def advert_of(
    ask: Ask, device: DeviceKey, addresses: Sequence[Address], visibility: LanVisibility
) -> Advert | None:
    """What the LAN is told of us; None while we have no address, or hide it."""
    if not addresses or (await ask(ListPathPolicies()))[0].policy.hides_address:
        return None
    me = await ask(WhoAmI())
    secret = None
    if visibility is LanVisibility.CONTACTS:
        secret = (await ask(ReadDiscoverySecrets())).own
    return Advert(device, me.name, tuple(addresses), secret)
