"""A contact, where it stands in the DHT, and which ones are believed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from enum import Enum
from functools import lru_cache
from typing import Final

from kademlia.node import Node

from discovery.hosts import parse_host, usable_host
from schemas.addresses import Address
from schemas.dht import ToldContact
from schemas.ids import DeviceKey, DhtId
from transport.admission import prefix_of

OnOurNetwork = Callable[[Address], bool]
"""Whether an adapter of ours is on the network that this private address belongs to."""

_HOSTS_REMEMBERED: Final = 65_536


def node_id(device: DeviceKey) -> DhtId:
    """Nobody chooses where they stand: SHA-256 of the device key."""
    return DhtId(hashlib.sha256(device).digest())


class Reach(Enum):
    """From where an address can be dialled."""

    MACHINE = "machine"  # loopback
    NETWORK = "network"  # private, link-local, shared: only on that network
    ANYWHERE = "anywhere"
    NOWHERE = "nowhere"  # a name, a multicast, unspecified or reserved address


class DhtContact(Node):  # type: ignore[misc] # the library is untyped
    """A device and where it listens; equal when both are. Immutable.

    `prefix`: what counts as one owner, /24 of IPv4 or /56 of IPv6; None for loopback, where all
    nodes of one machine are (tests, demonstrations).
    """

    id: DhtId
    long_id: int

    def __init__(self, device: DeviceKey, address: Address) -> None:
        super().__init__(node_id(device), address.host, address.port)
        self.device = device
        self.address = address
        self.reach, self.prefix = place_of(address.host)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, DhtContact) and self.id == other.id and self.address == other.address
        )

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        return f"DhtContact({self.device.hex()[:12]}, {self.address})"


@lru_cache(maxsize=_HOSTS_REMEMBERED)
def place_of(host: str) -> tuple[Reach, bytes | None]:
    """How far `host` (numeric) reaches, and its prefix."""
    if usable_host(host, on_link=True) is None:
        return Reach.NOWHERE, None
    ip = parse_host(host)
    assert ip is not None
    if ip.is_loopback:
        return Reach.MACHINE, None
    return (Reach.ANYWHERE if ip.is_global else Reach.NETWORK), prefix_of(host)


def believed_untrusted(
    told: ToldContact, teller: Address, on_our_network: OnOurNetwork
) -> DhtContact | None:
    """`told` as somebody to ask, or None when its address means nothing here.

    A global address is fine; another only on a network of ours; loopback only from a teller who
    is on this machine itself. Otherwise whoever answers us could have us dial whom they like
    inside our network.
    """
    if not 0 < told.address.port <= 65535:
        return None
    contact = told if isinstance(told, DhtContact) else DhtContact(told.device, told.address)
    match contact.reach:
        case Reach.ANYWHERE:
            return contact
        case Reach.MACHINE:
            return contact if place_of(teller.host)[0] is Reach.MACHINE else None
        case Reach.NETWORK:
            return contact if on_our_network(contact.address) else None
    return None


def worth_telling(contact: DhtContact, asker: Address) -> bool:
    """Whether the address of `contact` can mean anything to whoever asks from `asker`."""
    if contact.reach is Reach.ANYWHERE:
        return True
    if contact.reach is Reach.MACHINE:
        return place_of(asker.host)[0] is Reach.MACHINE
    return place_of(asker.host)[0] is Reach.NETWORK
