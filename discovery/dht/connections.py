"""Connections of one persona to those it asks: few, short-lived, and one dial to each at a time."""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from discovery.dht.dial_budget import DialBudget
from discovery.dht.quic_limits import QuicLimits
from schemas.addresses import Address
from schemas.dht import DHT_ALPN
from schemas.errors import Fault, Unreachable
from schemas.ids import DeviceKey
from transport import CloseCode, Connection, Endpoint

Peer = tuple[DeviceKey, Address]


class _Held:
    """A connection, or the dial for it."""

    def __init__(self, dial: asyncio.Task[Connection]) -> None:
        self.dial = dial
        self.users = 0
        self.letting_go: asyncio.TimerHandle | None = None

    @property
    def over(self) -> bool:
        return self.dial.done() and (
            self.dial.cancelled() or self.dial.exception() is not None or self.dial.result().closed
        )

    def end(self) -> None:
        if self.letting_go is not None:
            self.letting_go.cancel()
        if not self.dial.done():
            self.dial.cancel()
        elif not self.over:
            self.dial.result().close_now(CloseCode.NORMAL, "idle")


class Connections:
    """Made for one endpoint; `close` ends them all, not the endpoint."""

    def __init__(
        self, endpoint: Endpoint, budget: DialBudget, limits: QuicLimits, counts: Counter[str]
    ) -> None:
        self._endpoint = endpoint
        self._budget = budget
        self._limits = limits
        self._counts = counts
        self._held: OrderedDict[Peer, _Held] = OrderedDict()  # the longest unused first
        self._loop = asyncio.get_running_loop()

    def __len__(self) -> int:
        return len(self._held)

    @asynccontextmanager
    async def to(self, device: DeviceKey, address: Address) -> AsyncIterator[Connection]:
        """A connection to `device` at `address`, dialled if there is none.

        Raises Unreachable: `no-answer` and the like, `dial-budget`, `too-many-connections`.
        """
        peer = (device, address)
        held = self._held.get(peer)
        if held is None or held.over:
            self._make_room()
            held = self._held[peer] = _Held(self._loop.create_task(self._dial(peer)))
        self._held.move_to_end(peer)
        held.users += 1
        if held.letting_go is not None:
            held.letting_go.cancel()
        try:
            # Shielded: who gives up must not end the dial of another who waits for it.
            yield await asyncio.shield(held.dial)
        finally:
            held.users -= 1
            if not held.users:
                if held.over:
                    self._forget(peer, held)
                else:
                    held.letting_go = self._loop.call_later(
                        self._limits.idle_s, self._forget, peer, held
                    )

    def adopt(self, connection: Connection) -> None:
        """Keep one that was dialled otherwise."""
        peer = (connection.peer, connection.remote)
        if peer in self._held and not self._held[peer].over:
            connection.close_now(CloseCode.RACE_LOST)
            return
        self._make_room()

        async def there() -> Connection:
            return connection

        held = self._held[peer] = _Held(self._loop.create_task(there()))
        held.letting_go = self._loop.call_later(self._limits.idle_s, self._forget, peer, held)

    async def close(self) -> None:
        dials = [held.dial for held in self._held.values()]
        for peer, held in list(self._held.items()):
            self._forget(peer, held)
        await asyncio.gather(*dials, return_exceptions=True)

    def _forget(self, peer: Peer, held: _Held) -> None:
        held.end()
        if self._held.get(peer) is held:
            del self._held[peer]

    def _make_room(self) -> None:
        """Raises Unreachable `too-many-connections` when each is in use."""
        if len(self._held) < self._limits.connections:
            return
        unused = next((item for item in self._held.items() if not item[1].users), None)
        if unused is None:
            self._counts["too-many-connections"] += 1
            raise Unreachable("too-many-connections", "more DHT requests at once than allowed")
        self._forget(*unused)

    async def _dial(self, peer: Peer) -> Connection:
        device, address = peer
        if not self._budget.take(address, self._loop.time()):
            self._counts["dial-budget"] += 1
            raise Unreachable("dial-budget", f"{address} did not answer often enough")
        try:
            connection = await self._endpoint.dial(
                [address], expected=device, alpn=DHT_ALPN, deadline_s=self._limits.dial_s
            )
        except Fault as fault:
            self._counts[f"dial-{fault.code}"] += 1
            raise Unreachable(fault.code, fault.message, hint=fault.hint) from fault
        self._budget.answered(address, self._loop.time())
        return connection
