"""Where others are: what this node holds, and whom it asks, as sources of one resolver."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from discovery.mdns import Mdns
from discovery.sources import DHT, RECORDS, RELAY, HintSource, MdnsSource, RecordSource, Source
from node.delivery.asking import Ask
from node.engine.delivery_commands import LookUpPeer, ReceiveBundle
from schemas.addresses import Address
from schemas.ids import DeviceKey
from schemas.limits import ENDPOINT_RECORD
from schemas.records import Signed

AskOthers = Callable[[DeviceKey], Awaitable[Sequence[Signed]]]


class PeerAddresses:
    """`clock` gives Unix seconds; `ask_relays` the endpoint records that relays hold."""

    def __init__(self, ask: Ask, clock: Callable[[], float], ask_relays: AskOthers) -> None:
        self._ask = ask
        self._clock = clock
        self._ask_relays = ask_relays

    def sources(self, mdns: Mdns | None, ask_dht: AskOthers | None) -> list[Source]:
        """First asked first."""
        sources: list[Source] = [
            RecordSource(self._stored, RECORDS),
            HintSource(self._card_hints),
            RecordSource(self._directories, RELAY),
        ]
        if ask_dht is not None:
            sources.append(RecordSource(ask_dht, DHT))
        return sources if mdns is None else [MdnsSource(mdns), *sources]

    async def _stored(self, device: DeviceKey) -> Sequence[Signed]:
        """The newest endpoint record that came beside a bundle or over a link."""
        endpoint = (await self._ask(LookUpPeer(device))).endpoint
        return [] if endpoint is None else [Signed.decode(endpoint, limit=ENDPOINT_RECORD)]

    async def _card_hints(self, device: DeviceKey) -> Sequence[tuple[Address, float]]:
        peer = await self._ask(LookUpPeer(device))
        return [(Address.parse(hint), self._clock()) for hint in peer.hints]

    async def _directories(self, device: DeviceKey) -> Sequence[Signed]:
        records = await self._ask_relays(device)
        if records:
            await self._ask(ReceiveBundle(None, tuple(records)))
        return records
