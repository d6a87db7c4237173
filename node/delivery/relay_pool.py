"""Connections to relays, ours and recipients': made when wanted, shared, backed off, let go."""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from dataclasses import dataclass, field

from node.delivery.limits import DeliveryLimits
from node.delivery.relay_client import RelayClient
from schemas.addresses import RelayAddress
from schemas.errors import Fault, Unreachable
from schemas.ids import DeviceKey
from schemas.node_service import RELAY_ALPN, NodeService
from transport import (
    DEFAULT_LIMITS,
    Address,
    CloseCode,
    Connection,
    Endpoint,
    TransportLimits,
    connect_rpc,
)
from transport.supervise import Supervisor

WRONG_PEER = "wrong-peer"  # the transport's word: another key than the pinned one answers

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Relay:
    """One relay's connection; `ready` is the client, or the Fault that dialling ended with."""

    address: RelayAddress
    ready: asyncio.Future[RelayClient] | None = None
    task: asyncio.Task[None] | None = None
    failures: int = 0
    not_before: float = 0.0
    fault: Fault | None = None
    used_at: float = 0.0
    lost: asyncio.Event = field(default_factory=asyncio.Event)


class RelayPool:
    """`client` gives a connected relay. Relays in `keep` stay connected; others while in use."""

    def __init__(
        self,
        endpoint: Endpoint,
        own: DeviceKey,
        limits: DeliveryLimits,
        counters: Counter[str],
        *,
        transport_limits: TransportLimits = DEFAULT_LIMITS,
    ) -> None:
        self._endpoint = endpoint
        self._own = own
        self._limits = limits
        self._transport_limits = transport_limits
        self._counters = counters
        self._loop = asyncio.get_running_loop()
        self._relays: dict[RelayAddress, _Relay] = {}
        self._tasks = Supervisor(self._crashed)
        self.keep: frozenset[RelayAddress] = frozenset()
        self._closing = False

    async def client(self, address: RelayAddress, *, eager: bool = False) -> RelayClient:
        """The connected relay; dials, or joins whoever is dialling.

        Raises the Fault of the dial, or of the last one while a failed relay is backed off
        (`eager` dials all the same).
        """
        relay = self._relays.get(address)
        if relay is None:
            self._make_room()
            relay = self._relays[address] = _Relay(address)
        now = self._loop.time()
        relay.used_at = now
        if relay.ready is None:
            if self._closing:
                raise Unreachable("stopping", "the node is stopping")
            if now < relay.not_before and not eager and relay.fault is not None:
                raise relay.fault.with_traceback(None)
            relay.ready = self._loop.create_future()
            relay.task = self._tasks.start(self._hold(relay, relay.ready), name="relay")
        return await asyncio.shield(relay.ready)

    def connected(self, address: RelayAddress) -> bool:
        relay = self._relays.get(address)
        return (
            relay is not None
            and relay.ready is not None
            and relay.ready.done()
            and relay.ready.exception() is None
        )

    def why_not(self, address: RelayAddress) -> str | None:
        """The code of the last failure to connect; None if it was not tried."""
        relay = self._relays.get(address)
        return None if relay is None or relay.fault is None else relay.fault.code

    def retry_in(self, address: RelayAddress) -> float:
        """Seconds until a failed relay is dialled again."""
        relay = self._relays.get(address)
        return 0.0 if relay is None else max(0.0, relay.not_before - self._loop.time())

    def prove(self) -> None:
        """We are on another network: a relay follows at once, or is dialled anew."""
        for relay in self._relays.values():
            relay.not_before = 0.0
            if relay.ready is not None and relay.ready.done() and not relay.ready.exception():
                connection = relay.ready.result().connection
                self._tasks.start(self._prove(connection), name="relay-proof")

    async def _prove(self, connection: Connection) -> None:
        try:
            await connection.ping(self._limits.moved_proof_s)
        except Fault:
            connection.close_now(CloseCode.NORMAL, "no answer on another network")

    async def close(self) -> None:
        self._closing = True
        for relay in self._relays.values():
            if relay.task is not None:
                relay.task.cancel()
        await self._tasks.close(self._limits.flush_s)

    async def _hold(self, relay: _Relay, ready: asyncio.Future[RelayClient]) -> None:
        """Connect, and stay until the relay goes or nobody has wanted it for a while."""
        try:
            connection = await self._endpoint.dial(
                [Address(*relay.address.address)],
                expected=relay.address.device,
                alpn=RELAY_ALPN,
                deadline_s=self._limits.relay_dial_s,
            )
            try:
                stream = await connection.open_stream()
                async with connect_rpc(
                    stream, limits=self._transport_limits, counters=self._counters
                ) as rpc:
                    service = rpc.cast_as(NodeService, deadline_s=self._limits.relay_call_s)
                    client = RelayClient(
                        service,
                        rpc.export,
                        self._own,
                        relay.address,
                        connection,
                        limits=self._limits,
                    )
                    await client.health()  # it answers, and not only its transport
                    relay.failures, relay.not_before, relay.fault = 0, 0.0, None
                    ready.set_result(client)
                    await self._stay(relay, client)
            finally:
                connection.close_now()
        except Fault as fault:
            if not ready.done():
                self._fail(relay, fault)
                ready.set_exception(fault)
                ready.exception()  # retrieved: whoever asked may have gone
        finally:
            if not ready.done():
                ready.set_exception(Unreachable("stopping", "the node is stopping"))
                ready.exception()
            relay.ready = None
            relay.task = None

    async def _stay(self, relay: _Relay, client: RelayClient) -> None:
        closed = asyncio.ensure_future(client.connection.wait_closed())
        try:
            while not closed.done():
                idle = self._loop.time() - relay.used_at
                if relay.address not in self.keep and idle >= self._limits.relay_idle_s:
                    return
                await asyncio.wait({closed}, timeout=self._limits.relay_idle_s / 4)
        finally:
            closed.cancel()

    def _fail(self, relay: _Relay, fault: Fault) -> None:
        self._counters[f"relay-{fault.code}"] += 1
        relay.fault = fault
        limits = self._limits
        wait = min(limits.relay_retry_first_s * 2**relay.failures, limits.relay_retry_last_s)
        relay.failures = min(relay.failures + 1, 16)
        jitter = random.uniform(0.75, 1.25)  # noqa: S311 - spreads load, hides nothing
        relay.not_before = self._loop.time() + wait * jitter
        log.info("%r: %s", relay.address, fault)

    def _make_room(self) -> None:
        if len(self._relays) < self._limits.relays_at_once:
            return
        free = [r for r in self._relays.values() if r.ready is None and r.address not in self.keep]
        if not free:
            busy = [r for r in self._relays.values() if r.address not in self.keep]
            free = [min(busy, key=lambda relay: relay.used_at)] if busy else []
        for relay in free[:1]:
            if relay.task is not None:
                relay.task.cancel()
            del self._relays[relay.address]

    def _crashed(self, name: str) -> None:
        self._counters[f"{name}-crashed"] += 1
