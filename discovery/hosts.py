"""Which numeric hosts can be dialled at all, and how far they reach; pure."""

from __future__ import annotations

import ipaddress
from typing import Final

from schemas.addresses import Address, AddressKind, EndpointAddress

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

_THIS_NETWORK: Final = ipaddress.ip_network("0.0.0.0/8")  # RFC 1122, section 3.2.1.3
_LONGEST_HOST: Final = 64  # the longest IPv6 text is 45 characters, plus a scope


def parse_host(host: str) -> IpAddress | None:
    """The address that `host` writes in digits, or None. Names are never looked up.

    A name in a record would let its author make us ask any DNS server anything.
    """
    if len(host) > _LONGEST_HOST:
        return None
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def usable_host(host: str, *, on_link: bool) -> str | None:
    """`host` in canonical text when a peer could listen there, else None.

    Unusable: names, unspecified, multicast, broadcast and reserved addresses, IPv4 mapped into
    IPv6, and IPv6 link-local addresses, unless `on_link` (heard on a link of ours) and with the
    scope that says which link: a scope in somebody else's record means nothing here.
    """
    ip = parse_host(host)
    if ip is None or ip.is_unspecified or ip.is_multicast:
        return None
    if isinstance(ip, ipaddress.IPv4Address):
        return None if ip.is_reserved or ip in _THIS_NETWORK else str(ip)
    if ip.ipv4_mapped is not None:
        return None
    if ip.is_link_local:
        return str(ip) if on_link and ip.scope_id else None
    return None if ip.scope_id else str(ip)


def usable(endpoint: EndpointAddress, *, on_link: bool = False) -> EndpointAddress | None:
    """`endpoint` with its host in canonical text, or None when it cannot be dialled."""
    host = usable_host(endpoint.address.host, on_link=on_link)
    if host is None or not 0 < endpoint.address.port <= 65535:
        return None
    return EndpointAddress(Address(host, endpoint.address.port), endpoint.kind)


def is_loopback(host: str) -> bool:
    ip = parse_host(host)
    return ip is not None and ip.is_loopback


def kind_of(ip: IpAddress) -> AddressKind:
    """PUBLIC when the IANA registries call it globally reachable, else LAN (CGNAT included)."""
    return AddressKind.PUBLIC if ip.is_global else AddressKind.LAN


def with_kind(address: Address) -> EndpointAddress:
    """`address` with the kind that its digits tell; a name counts as PUBLIC."""
    ip = parse_host(address.host)
    return EndpointAddress(address, AddressKind.PUBLIC if ip is None else kind_of(ip))
