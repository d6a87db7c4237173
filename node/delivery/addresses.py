"""Where devices are: the engine's knowledge as sources for discovery's resolver."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from discovery.hosts import with_kind
from discovery.sources import HINTS, RECORDS, Hint, Lead
from node.delivery.asking import Ask
from node.engine.commands import LookUpPeer
from schemas.addresses import Address
from schemas.ids import DeviceKey
from schemas.limits import ENDPOINT_RECORD
from schemas.records import Signed


@dataclass(frozen=True, slots=True)
class CardSource:
    """Address hints of the peer's card. `clock` is Unix seconds."""

    ask: Ask
    clock: Callable[[], float]
    name: str = HINTS

    async def resolve(self, device: DeviceKey) -> Sequence[Lead]:
        peer = await self.ask(LookUpPeer(device))
        return [Hint(with_kind(Address.parse(hint)), self.clock()) for hint in peer.hints]


@dataclass(frozen=True, slots=True)
class StoredRecordSource:
    """The newest endpoint record that came beside a bundle or over a link."""

    ask: Ask
    name: str = RECORDS

    async def resolve(self, device: DeviceKey) -> Sequence[Lead]:
        peer = await self.ask(LookUpPeer(device))
        if peer.endpoint is None:
            return []
        return [Signed.decode(peer.endpoint, limit=ENDPOINT_RECORD)]
