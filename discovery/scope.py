"""Which addresses of others may be dialled from here: each only on the network it belongs to.

A record says whatever its author likes. An address that the IANA registries do not call globally
reachable means another machine in every network, so it is dialled only where it can be the one
that was meant.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Final, Self

from discovery.hosts import parse_host
from discovery.interfaces import InterfaceAddress, read_interfaces

IpNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

_NO_PREFIX: Final = -1


@dataclass(frozen=True, slots=True)
class OwnNetworks:
    """The networks that this machine's adapters are on, and the hosts that others see us at."""

    prefixes: tuple[IpNetwork, ...]
    seen_at: frozenset[str] = frozenset()

    @classmethod
    def of(cls, interfaces: Iterable[InterfaceAddress], seen_at: Collection[str] = ()) -> Self:
        found: dict[IpNetwork, None] = {}
        for each in interfaces:
            ip = parse_host(each.host.partition("%")[0])
            if ip is not None and each.prefix != _NO_PREFIX:
                network = ipaddress.ip_network(f"{ip}/{each.prefix}", strict=False)
                found[network] = None
        return cls(tuple(found), frozenset(seen_at))

    def admits(self, host: str, beside: Collection[str] = ()) -> bool:
        """Whether a peer may be looked for at `host`, which stands in its record with `beside`.

        Global addresses: yes. Others: if an adapter is on that network, or if the peer is seen at
        a host where we are seen too: it is behind the same NAT. The machine itself (loopback) is
        a network that every machine is on.
        """
        ip = parse_host(host)
        if ip is None:
            return False
        if ip.is_global:
            return True
        if self.on_link(host):
            return True
        return not ip.is_loopback and not self.seen_at.isdisjoint(beside)

    def on_link(self, host: str) -> bool:
        """Whether an adapter of ours is on the network that `host` belongs to."""
        ip = parse_host(host.partition("%")[0])
        return ip is not None and any(
            ip in prefix for prefix in self.prefixes if prefix.version == ip.version
        )

    def near(self, host: str) -> bool:
        """Whether packets to `host` stay on the local network: behind the same NAT if any."""
        ip = parse_host(host.partition("%")[0])
        if ip is None or ip.is_loopback:
            return self.on_link(host)
        return not ip.is_global or self.on_link(host)

    @property
    def public(self) -> bool:
        """Whether an adapter has a global address, so that others may dial us as we are."""
        return any(prefix.network_address.is_global for prefix in self.prefixes)


NetworksNow = Callable[[], OwnNetworks]


def networks_now() -> OwnNetworks:
    """Of this machine's adapters; nothing when the system cannot say."""
    try:
        return OwnNetworks.of(read_interfaces())
    except OSError:
        return OwnNetworks(())
