"""Where a recipient reads their mail now: relays are asked beside the sending, each so often."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable, Iterable

from node.delivery.asking import Ask
from node.delivery.limits import DeliveryLimits
from node.delivery.obtain import parse_relays, read_relays
from node.engine.relay_commands import ReceiveRelayStatement
from node.engine.values import PeerView
from schemas.addresses import RelayAddress, each_once
from schemas.errors import Fault
from schemas.ids import IdentityKey
from schemas.records import Signed
from transport.supervise import Supervisor

Statements = Callable[[RelayAddress, PeerView], Awaitable[Signed | None]]
"""The statement that a relay holds of a peer's person. Raises Fault."""

log = logging.getLogger(__name__)


class RelayMoves:
    """The engine judges what is found; when somebody moved, it has their parcels sent anew."""

    def __init__(
        self,
        ask: Ask,
        statement: Statements,
        own_relays: Callable[[], Iterable[RelayAddress]],
        limits: DeliveryLimits,
        counters: Counter[str],
    ) -> None:
        self._ask = ask
        self._statement = statement
        self._own_relays = own_relays
        self._limits = limits
        self._counters = counters
        self._loop = asyncio.get_running_loop()
        self._asked: OrderedDict[tuple[IdentityKey, bool], float] = OrderedDict()
        self._tasks = Supervisor(lambda name: counters.update([f"{name}-crashed"]))

    def left_at(self, peer: PeerView) -> None:
        """Parcels are left at this peer's relays: do these say that it moved?"""
        self._look(peer, parse_relays(peer), failed=False)

    def refused(self, peer: PeerView) -> None:
        """None of this peer's relays takes anything: does any other know of it?"""
        known = (*peer.relays, *peer.hint_relays)
        self._look(peer, each_once([*read_relays(known), *self._own_relays()]), failed=True)

    def _look(self, peer: PeerView, relays: list[RelayAddress], *, failed: bool) -> None:
        if peer.identity is None or not relays:
            return
        now, key = self._loop.time(), (peer.identity, failed)
        limits = self._limits
        every_s = limits.statement_failed_s if failed else limits.statement_every_s
        if now - self._asked.get(key, -every_s) < every_s:
            return
        self._asked[key] = now
        self._asked.move_to_end(key)
        if len(self._asked) > limits.devices_remembered:
            self._asked.popitem(last=False)
        for relay in relays[: limits.statement_relays]:
            self._tasks.start(self._ask_at(relay, peer), name="relay-statement")

    async def _ask_at(self, relay: RelayAddress, peer: PeerView) -> None:
        try:
            signed = await self._statement(relay, peer)
            if signed is not None and await self._ask(ReceiveRelayStatement(signed)):
                log.info("%r reads its mail elsewhere now", peer.device)
        except Fault as fault:
            self._counters[f"relay-statement-{fault.code}"] += 1
            log.debug("no statement at %r: %s", relay, fault)

    async def close(self) -> None:
        await self._tasks.close(self._limits.flush_s)
