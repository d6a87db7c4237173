"""What is around this node: NAT, router, others who see it, the DHT, the LAN; for `doctor`."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Final

from discovery.hosts import parse_host
from discovery.interfaces import read_interfaces
from node.delivery.delivery import Delivery
from node.views import NetworkView
from schemas.addresses import Address, is_ip
from schemas.errors import Refused
from transport.nat import DialBack, NatFiltering, NatMapping, Sighting, infer

_LOOK_AGAIN_S: Final = 0.1
_SETTLED_S: Final = 15.0  # what is not known by then comes when it comes


class Surroundings:
    """What was learnt since the node started; nothing is sent to find out."""

    def __init__(self, delivery: Delivery, asks_router: bool) -> None:
        self._delivery = delivery
        self._asks_router = asks_router
        self._now = asyncio.get_running_loop().time
        self._settled_at = self._now() + _SETTLED_S

    async def look(self, deadline_s: float) -> NetworkView:
        """As soon as all is known that is to be expected, or at the deadline. Raises OSError."""
        end = min(self._now() + deadline_s, self._settled_at)
        while not self._complete(view := self._view()) and self._now() < end:  # noqa: ASYNC110
            await asyncio.sleep(_LOOK_AGAIN_S)  # what is looked at comes from six sides
        return view

    def _complete(self, view: NetworkView) -> bool:
        expected = view.relays or view.dialled_back
        known = view.nat.mapping is not NatMapping.UNKNOWN or not expected
        tested = not view.dialled_back or view.nat.filtering is not NatFiltering.UNKNOWN
        return (known and tested) and (view.outcome is not None or not view.asks_router)

    def _view(self) -> NetworkView:
        delivery = self._delivery
        hosts = [each.host for each in read_interfaces()]
        strangers = [each for each in delivery.endpoint.strangers.hosts if _is_global(each)]
        router, mdns = delivery.router_port, delivery.mdns
        return NetworkView(
            listen=delivery.endpoint.address,
            nat=infer(
                [each for each in hosts if is_ip(each, 4)],
                [each for each in self._sightings() if is_ip(each.seen.host, 4)],
                self._dial_backs(),
                strangers=any(is_ip(each, 4) for each in strangers),
            ),
            hosts=tuple(each for each in hosts if not _is_local(each)),
            asks_router=self._asks_router and router is not None and router.asks,
            outcome=None if router is None else router.outcome,
            answered=len(self._answering()),
            relays=sum(not _is_near(each.address.host) for each in delivery.own_relays.addresses),
            dialled_back=delivery.dht is not None and delivery.public,
            lan_peers=None if mdns is None else len(mdns.peers()),
        )

    def _sightings(self) -> Iterator[Sighting]:
        for each in self._delivery.observed.observations():
            yield Sighting(each.at, each.address)
        if self._delivery.dht is None:
            return
        for contact, answer in self._delivery.dht.dial_backs():
            try:
                yield Sighting(contact, Address.parse(answer.observed))
            except Refused:
                continue

    def _dial_backs(self) -> Iterator[DialBack]:
        if self._delivery.dht is not None:
            for contact, answer in self._delivery.dht.dial_backs():
                if is_ip(contact.host, 4):
                    yield DialBack(contact, answer.reached)

    def _answering(self) -> set[str]:
        """Hosts beyond our network that we hear."""
        heard = {each.remote.host for each in self._delivery.endpoint.connections}
        heard |= {each.observer.host for each in self._sightings()}
        return {host for host in heard if _is_global(host)}


def _is_global(host: str) -> bool:
    ip = parse_host(host)
    return ip is not None and ip.is_global


def _is_near(host: str) -> bool:
    """Written in digits, and not an address on the Internet."""
    return parse_host(host) is not None and not _is_global(host)


def _is_local(host: str) -> bool:
    """Of use on this link or machine only."""
    ip = parse_host(host)
    return ip is None or ip.is_loopback or ip.is_link_local
