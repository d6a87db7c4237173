"""A node as a DNS-SD service: what we say of ourselves, and what is believed of others."""

from __future__ import annotations

import itertools
import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from zeroconf.asyncio import AsyncServiceInfo

from discovery.hosts import is_loopback, parse_host, usable
from discovery.lan_events import Peer
from discovery.lan_tags import tag_for
from discovery.mdns_txt import TxtRecord, encode_tag
from schemas.addresses import Address, AddressKind, EndpointAddress
from schemas.errors import Malformed
from schemas.ids import DeviceKey
from schemas.limits import ENDPOINT_ADDRESSES

SERVICE_TYPE: Final = "_quicnprotochat._udp.local."


@dataclass(frozen=True, slots=True)
class Advert:
    """What this node says about itself to the LAN.

    `addresses`: those of `interfaces.own_addresses(bound, link_local=True)`, all of one port. The
    name is trimmed to what can be shown safely. With `secret`, the discovery secret of our card,
    neither name nor key is said, but a tag for those who hold the card.
    """

    device: DeviceKey
    name: str
    addresses: tuple[Address, ...]
    secret: bytes | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if len({address.port for address in self.addresses}) != 1:
            raise ValueError("an advert needs addresses, and all of one port")

    def txt(self, label: str, day: int) -> bytes:
        """The TXT record to go under `label` on that day since 1970."""
        if self.secret is None:
            return TxtRecord(self.device, self.name).encode()
        return encode_tag(tag_for(self.secret, self.device, label, day))


def describe(label: str, advert: Advert, day: int) -> AsyncServiceInfo:
    """The DNS-SD service of `advert` under `label`. Raises ValueError for a host in letters."""
    packed = []
    for host, _ in advert.addresses[:ENDPOINT_ADDRESSES]:
        ip = parse_host(host)
        if ip is None:
            raise ValueError(f"an advert's addresses are numeric: {host!r}")
        family = socket.AF_INET if ip.version == 4 else socket.AF_INET6
        packed.append(socket.inet_pton(family, host.partition("%")[0]))
    return AsyncServiceInfo(
        SERVICE_TYPE,
        f"{label}.{SERVICE_TYPE}",
        port=advert.addresses[0].port,
        properties=advert.txt(label, day),
        server=f"{label}.local.",  # not the machine's name: that is nobody's business
        addresses=packed,
    )


def peer_untrusted(
    said: TxtRecord,
    port: int,
    hosts: Iterable[str],
    *,
    on_link: Callable[[str], bool],
    loopback: bool,
    now: float,
) -> Peer:
    """The peer that a service on the LAN describes.

    `hosts` are numeric, link-local IPv6 with the scope of the link it was heard on; those that
    nobody could dial are left out, as are those that are not `on_link`, and loopback unless
    `loopback`: a neighbour must not make us talk to whom it likes. Raises Malformed `bad-port`,
    `no-usable-address`.
    """
    if not 0 < port <= 65535:
        raise Malformed("bad-port", "a LAN peer without a port")
    addresses: dict[EndpointAddress, None] = {}
    for host in itertools.islice(hosts, 4 * ENDPOINT_ADDRESSES):
        # LAN whatever the digits say: it was heard on a link of ours.
        endpoint = usable(EndpointAddress(Address(host, port), AddressKind.LAN), on_link=True)
        if endpoint is not None and (loopback if is_loopback(host) else on_link(host)):
            addresses[endpoint] = None
    if not addresses:
        raise Malformed("no-usable-address", "a LAN peer without an address to dial")
    kept = tuple(itertools.islice(addresses, ENDPOINT_ADDRESSES))
    return Peer(said.device, said.name, kept, now)
