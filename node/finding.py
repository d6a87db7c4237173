"""What the user asks of the DHT: how it stands, and a lookup as it runs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from discovery.dht.watching import LookupEvent
from discovery.record import newest, open_endpoint_record_untrusted
from node.delivery.asking import Ask
from node.delivery.delivery import Delivery
from node.delivery.dht import Dht, DhtStatus
from node.delivery.paths import PathView
from node.engine.delivery_commands import LookUpPeer
from node.engine.values import Event
from schemas.errors import Blame, Fault, Unreachable
from schemas.ids import DeviceKey
from schemas.records import EndpointRecord, Signed

LOOKUP = "dht-lookup"


class Finding:
    """`announce` gets an Event `dht-lookup` for each step; `clock` gives Unix seconds."""

    def __init__(
        self,
        ask: Ask,
        delivery: Delivery,
        announce: Callable[[Event], None],
        clock: Callable[[], float],
    ) -> None:
        self._ask = ask
        self._delivery = delivery
        self._announce = announce
        self._clock = clock

    def status(self) -> DhtStatus | None:
        """None: switched off."""
        dht = self._delivery.dht
        return None if dht is None else dht.status()

    async def look_up(self, devices: Sequence[DeviceKey], token: str) -> tuple[PathView, ...]:
        """Where these devices are by the DHT, asked now; those of people we know are dialled.

        `token` stands in the events. Raises Fault `dht-off`; Unreachable `dht-empty` when nobody
        of the DHT answers, `not-in-dht` when nothing was found.
        """
        dht = self._delivery.dht
        if dht is None:
            raise Fault(
                "dht-off",
                "this node takes no part in the DHT",
                blame=Blame.CALLER,
                hint="run it with --dht",
            )
        found = [view for device in devices for view in await self._one(dht, device, token)]
        if found:
            return tuple(found)
        if not dht.status().contacts:
            raise Unreachable(
                "dht-empty",
                "nobody of the DHT answers",
                hint="name a node to begin with: run --bootstrap HOST:PORT",
            )
        raise Unreachable(
            "not-in-dht",
            "nothing of theirs was found in the DHT",
            hint="private records are found by holders of their card alone",
        )

    async def _one(self, dht: Dht, device: DeviceKey, token: str) -> list[PathView]:
        def watch(part: str, event: LookupEvent) -> None:
            self._announce(Event(LOOKUP, {"lookup": token, "part": part, **_fields(event)}))

        records = await dht.lookups.find(device, watch)
        if not records:
            return []
        record = self._newest(records)
        if (await self._ask(LookUpPeer(device))).identity is not None:
            await self._delivery.dialer.reach(device, self._delivery.limits.relay_fallback_s)
        known = {view.address: view for view in (await self._delivery.paths.of(device)).paths}
        return [
            self._view(device, str(each.address), each.kind.value, record, known)
            for each in record.addresses
        ]

    def _newest(self, records: Sequence[Signed]) -> EndpointRecord:
        opened = [open_endpoint_record_untrusted(each, now=self._clock()) for each in records]
        best = opened[0]
        for each in opened[1:]:
            best = newest(best, each)
        return best

    def _view(
        self,
        device: DeviceKey,
        address: str,
        kind: str,
        record: EndpointRecord,
        known: dict[str, PathView],
    ) -> PathView:
        age_s = max(0.0, self._clock() - record.issued)
        if address in known:
            return dataclasses.replace(known[address], source="dht", age_s=age_s)
        return PathView(device, address, kind, "dht", age_s, None, None, False, None)


def _fields(event: LookupEvent) -> dict[str, object]:
    return {
        "step": event.step.value,
        "path": event.path,
        "device": event.contact.device.hex(),
        "address": str(event.contact.address),
        "distance": event.distance,
        "hops": event.hops,
        "seconds": round(event.seconds, 4),
        "teller": None if event.teller is None else event.teller.device.hex(),
        "told": event.told,
        "code": event.code,
    }
