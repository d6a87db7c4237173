"""Places that know where a device might be, all behind one small interface.

A source hands over what it has, believed by nobody: signed records as they came, and hints. The
resolver checks, merges and bounds.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from discovery.hosts import with_kind
from discovery.mdns import Mdns
from schemas.addresses import Address, EndpointAddress
from schemas.ids import DeviceKey
from schemas.records import Signed

HINTS: Final = "card"
RECORDS: Final = "record"
MDNS: Final = "mdns"
RELAY: Final = "relay"
DHT: Final = "dht"

ELSEWHERE: Final = (RELAY, DHT)
"""Sources that ask others over the network."""


@dataclass(frozen=True, slots=True)
class Hint:
    """An address that nobody signed, and when it was learnt (Unix seconds)."""

    endpoint: EndpointAddress
    learnt_at: float


Lead = Hint | Signed


class Source(Protocol):
    """One place to ask. `name` is what users see beside an address; short and unique."""

    @property
    def name(self) -> str: ...

    async def resolve(self, device: DeviceKey) -> Sequence[Lead]:
        """What this source knows of `device`, best first; empty when nothing.

        May raise Fault or OSError, and may be cancelled at its deadline.
        """
        ...


@dataclass(frozen=True, slots=True)
class HintSource:
    """Addresses from cards, the command line or memory: (address, learnt at, Unix seconds)."""

    ask: Callable[[DeviceKey], Awaitable[Sequence[tuple[Address, float]]]]
    name: str = HINTS

    async def resolve(self, device: DeviceKey) -> Sequence[Lead]:
        found = await self.ask(device)
        return [Hint(with_kind(address), learnt_at) for address, learnt_at in found]


@dataclass(frozen=True, slots=True)
class RecordSource:
    """Signed records: those this node holds, a relay's directory, the DHT."""

    ask: Callable[[DeviceKey], Awaitable[Sequence[Signed]]]
    name: str

    async def resolve(self, device: DeviceKey) -> Sequence[Lead]:
        return await self.ask(device)


@dataclass(frozen=True, slots=True)
class MdnsSource:
    """Whoever says on the LAN that it is the device."""

    mdns: Mdns
    name: str = MDNS

    async def resolve(self, device: DeviceKey) -> Sequence[Lead]:
        peer = self.mdns.find(device)
        if peer is None:
            return []
        return [Hint(endpoint, peer.last_seen) for endpoint in peer.addresses]
