"""This machine's own candidate addresses, from where the endpoint is bound."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import ifaddr

from discovery.hosts import kind_of, parse_host, usable_host
from schemas.addresses import Address, EndpointAddress
from schemas.errors import Refused
from schemas.limits import ENDPOINT_ADDRESSES

# Bridges of containers and virtual machines: half the world has 172.17.0.1, and nobody outside
# this machine reaches ours. They come last, so that they never push a real address out.
_VIRTUAL_ADAPTERS: Final = ("docker", "br-", "veth", "virbr", "vmnet", "vboxnet", "lxc", "lxdbr")


@dataclass(frozen=True, slots=True)
class InterfaceAddress:
    """One address of one network adapter, as numeric text; IPv6 link-local with `%scope`.

    `prefix`: how many bits of it say the network, -1 when that is not known.
    """

    adapter: str
    host: str
    prefix: int = -1


def own_addresses(bound: Address, *, link_local: bool = False) -> tuple[EndpointAddress, ...]:
    """Where peers might reach an endpoint bound at `bound`; reads the machine's adapters.

    Arguments, result and errors as `candidates`. Raises also OSError when the system cannot say.
    """
    return candidates(bound, read_interfaces(), link_local=link_local)


def candidates(
    bound: Address, interfaces: Iterable[InterfaceAddress], *, link_local: bool = False
) -> tuple[EndpointAddress, ...]:
    """At most ENDPOINT_ADDRESSES addresses with the bound port, most useful first; pure.

    `0.0.0.0` stands for every IPv4 address, `::` for every address (the endpoint's IPv6 socket
    takes both), anything else for itself. Loopback appears only when it is what was bound, or
    when there is nothing else. `link_local` adds IPv6 link-local addresses, which belong into
    mDNS and never into a record. Raises Refused `bad-address` when `bound` is not numeric or has
    no port.
    """
    where = parse_host(bound.host)
    if where is None or not 0 < bound.port <= 65535:
        raise Refused("bad-address", f"not a bound address: {bound}")
    if not where.is_unspecified:
        interfaces = [InterfaceAddress("", str(where))]
    both = where.version == 6 or not where.is_unspecified
    ranked: dict[Address, tuple[tuple[bool, bool, int], EndpointAddress]] = {}
    order: Counter[tuple[str, int]] = Counter()
    for interface in interfaces:
        host = usable_host(interface.host, on_link=link_local)
        ip = parse_host(interface.host)
        if host is None or ip is None or not (both or ip.version == 4):
            continue
        # An adapter's first IPv4 and first IPv6 address before anybody's second: IPv6 privacy
        # addresses come by the dozen.
        nth = order[interface.adapter, ip.version]
        order[interface.adapter, ip.version] += 1
        virtual = interface.adapter.startswith(_VIRTUAL_ADAPTERS)
        address = Address(host, bound.port)
        rank = (ip.is_loopback, virtual, nth)
        ranked.setdefault(address, (rank, EndpointAddress(address, kind_of(ip))))
    if any(not rank[0] for rank, _ in ranked.values()):
        ranked = {address: entry for address, entry in ranked.items() if not entry[0][0]}
    best = sorted(ranked.values(), key=lambda entry: entry[0])
    return tuple(endpoint for _, endpoint in best[:ENDPOINT_ADDRESSES])


def read_interfaces() -> list[InterfaceAddress]:
    """Every address of every adapter of this machine. Raises OSError."""
    found = []
    for adapter in ifaddr.get_adapters():
        for ip in adapter.ips:
            if isinstance(ip.ip, str):
                host = ip.ip
            else:
                literal, _, scope = ip.ip
                link_local = literal.lower().startswith("fe80:")
                host = f"{literal}%{scope}" if link_local and scope else literal
            found.append(InterfaceAddress(adapter.name, host, ip.network_prefix))
    return found
