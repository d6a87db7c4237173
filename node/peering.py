"""What the user asks about peers: who is there, how far they are, and which ways lead to them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from node.delivery.asking import Ask
from node.delivery.delivery import Delivery
from node.delivery.link import Link
from node.delivery.paths import DevicePaths
from node.engine.commands import DevicesOf, FindPerson
from node.engine.delivery_commands import LookUpPeer
from node.views import PeerLinkView, PingView
from schemas.addresses import RelayAddress
from schemas.errors import Fault, Unreachable
from schemas.ids import DeviceKey, IdentityKey

_PING_S: Final = 1.0  # per link, when all are listed
_PING_REACH_S: Final = 5.0  # to get a path to what is to be pinged


class Peering:
    def __init__(self, ask: Ask, delivery: Delivery) -> None:
        self._ask = ask
        self._delivery = delivery

    async def ping(self, target: str) -> PingView:
        """A person, device or relay. Raises Refused `unknown-person`, Unreachable."""
        if "#" in target:
            return await self._ping_relay(RelayAddress.parse(target))
        last: Fault = Unreachable("unreachable", "no device of this person is known")
        dialer = self._delivery.dialer
        for device in await self.devices_of(target):
            link = await dialer.reach(device, _PING_REACH_S, pursue=False, eager=True)
            if link is None:
                why = dialer.why_not(device)
                hint = f"see `paths {device.hex()[:12]}`"
                last = Unreachable(why, "no direct path to the device", hint=hint)
                continue
            return PingView(device, await link.ping() * 1000, "direct")
        raise last

    async def devices_of(self, target: str) -> Sequence[DeviceKey]:
        """A person's devices; a key that is nobody's we know may be a device's."""
        person = await self._ask(FindPerson(target))
        devices = await self._ask(DevicesOf(person))
        if not devices and target.strip().lower() == person.hex():
            return [DeviceKey(person)]
        return devices

    async def _ping_relay(self, address: RelayAddress) -> PingView:
        client = await self._delivery.pool.client(address, eager=True)
        return PingView(address.device, await client.connection.ping() * 1000, "relay")

    async def paths(self, identity: IdentityKey) -> tuple[DevicePaths, ...]:
        """To each device of a person: what all sources say now, and those not linked are tried.

        Raises Unreachable `unknown-device`.
        """
        devices = await self._ask(DevicesOf(identity))
        if not devices:
            raise Unreachable(
                "unknown-device", "no device of this person is known", hint="add their card"
            )
        return tuple(await asyncio.gather(*(self._paths(device) for device in devices)))

    async def _paths(self, device: DeviceKey) -> DevicePaths:
        dialer, limits = self._delivery.dialer, self._delivery.limits
        known, _ = await asyncio.gather(
            self._delivery.resolver.resolve(device),
            dialer.reach(device, limits.relay_fallback_s, eager=True),
        )
        dialer.candidates.found(device, known.found, all_there_is=True)
        return await self._delivery.paths.of(device)

    async def peers(self) -> tuple[PeerLinkView, ...]:
        """Links and LAN peers, links first."""
        links = self._delivery.links.all()
        rtts = await asyncio.gather(*(_rtt_ms(link) for link in links))
        open_ones = [(link, rtt) for link, rtt in zip(links, rtts, strict=True) if not link.closed]
        views = [await self._linked(link, rtt) for link, rtt in open_ones]
        linked = {link.peer for link, _ in open_ones}
        mdns = self._delivery.mdns
        for peer in () if mdns is None else mdns.peers():
            if peer.device in linked:
                continue
            known = await self._ask(LookUpPeer(peer.device))
            views.append(
                PeerLinkView(
                    peer.device,
                    known.identity,
                    known.name or peer.name,
                    tuple(str(endpoint.address) for endpoint in peer.addresses),
                    "mdns",
                    connected=False,
                    path=None,
                    rtt_ms=None,
                    key_exchange=None,
                )
            )
        return tuple(views)

    async def _linked(self, link: Link, rtt_ms: float | None) -> PeerLinkView:
        known = await self._ask(LookUpPeer(link.peer))
        mdns = self._delivery.mdns
        heard = None if mdns is None else mdns.find(link.peer)
        addresses = [str(link.connection.remote)]
        if heard is not None:
            addresses += [str(endpoint.address) for endpoint in heard.addresses]
        return PeerLinkView(
            link.peer,
            link.identity,
            known.name or ("" if heard is None else heard.name),
            tuple(dict.fromkeys(addresses)),
            "link" if heard is None else "link+mdns",
            connected=True,
            path="direct",
            rtt_ms=rtt_ms,
            key_exchange=link.connection.key_exchange,
            kind=self._delivery.paths.kind(link).value,
        )


async def _rtt_ms(link: Link) -> float | None:
    try:
        return await link.ping(_PING_S) * 1000
    except Fault:
        return None
