"""Our port at the router in front of us: kept forwarded, and added to where we are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from discovery.hosts import is_loopback, with_kind
from node.delivery.whereabouts import Whereabouts
from node.engine.values import Event
from schemas.addresses import Address, AddressKind
from transport.port_mapping import Mapped, Outcome, PortMapper


class RouterPort:
    """`announce` gets the event port-mapping whenever the address outside changes."""

    def __init__(
        self,
        bound: Address,
        whereabouts: Whereabouts,
        counters: Counter[str],
        announce: Callable[[Event], None],
    ) -> None:
        self._whereabouts = whereabouts
        self._announce = announce
        self._address: Address | None = None
        self._mapper = None if is_loopback(bound.host) else PortMapper(bound, self._told, counters)

    @property
    def asks(self) -> bool:
        """False when we listen where no router sends anything."""
        return self._mapper is not None

    @property
    def outcome(self) -> Outcome | None:
        """None before the first answer, and where no router leads to what we listen on."""
        return None if self._mapper is None else self._mapper.outcome

    def start(self) -> None:
        if self._mapper is not None:
            self._mapper.start()

    def network_changed(self) -> None:
        if self._mapper is not None:
            self._mapper.again()

    async def close(self) -> None:
        if self._mapper is not None:
            await self._mapper.close()

    def _told(self, outcome: Outcome) -> None:
        address = outcome.external if isinstance(outcome, Mapped) else None
        if address == self._address:
            return
        self._address = address
        found = () if address is None else (with_kind(address),)
        # Behind a second router the address outside is private, too: nobody can dial it.
        self._whereabouts.learnt(
            "mapped", *(each for each in found if each.kind == AddressKind.PUBLIC)
        )
        fields: dict[str, object] = {"address": None, "protocol": None}
        if isinstance(outcome, Mapped):
            fields = {"address": str(outcome.external), "protocol": outcome.protocol.value}
        self._announce(Event("port-mapping", fields))
