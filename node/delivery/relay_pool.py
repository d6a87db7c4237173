"""Connections to relays, ours and recipients': made when wanted, shared, backed off, let go.

A relay may have several processes. Whatever is about a device's mailbox goes to the first of them
in that device's order (`RelayAddress.order_for`), or the next that answers. One that failed is only
tried before the others again after a growing pause.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from dataclasses import dataclass
from functools import partial

from node.delivery.limits import DeliveryLimits
from node.delivery.relay_client import RelayClient
from node.delivery.setbacks import ProcessKey, Setbacks
from schemas.addresses import RelayAddress
from schemas.errors import Fault, Unreachable
from schemas.ids import DeviceKey
from schemas.node_service import RELAY_ALPN, NodeService
from transport import (
    DEFAULT_LIMITS,
    CloseCode,
    Connection,
    Endpoint,
    TransportLimits,
    connect_rpc,
)
from transport import Address as TransportAddress
from transport.dial import race
from transport.pauses import growing
from transport.supervise import Supervisor
from transport.timer import TIMER_SLACK_S

WRONG_PEER = "wrong-peer"  # the transport's word: another key than the pinned one answers

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Process:
    """The connection to one process; `ready` is the client, or the Fault that dialling ended with.

    `failures` are dials in a row, and `not_before` is for them.
    """

    address: RelayAddress
    ready: asyncio.Future[RelayClient] | None = None
    task: asyncio.Task[None] | None = None
    failures: int = 0
    not_before: float = 0.0
    fault: Fault | None = None
    dialed_at: float = 0.0
    used_at: float = 0.0

    @property
    def key(self) -> ProcessKey:
        return self.address.device, self.address.address

    @property
    def lost(self) -> bool:
        """It was connected, and the task that held the connection is about to end."""
        return self.client is None and self.ready is not None and self.ready.done()

    @property
    def client(self) -> RelayClient | None:
        """When connected."""
        ready = self.ready
        if ready is None or not ready.done() or ready.exception() is not None:
            return None
        client = ready.result()
        return None if client.connection.closed else client


class RelayPool:
    """`client` gives a connected relay. Our relays, `keep`, stay connected at the process that was
    last given for our own mailbox; other connections while in use."""

    def __init__(
        self,
        endpoint: Endpoint,
        own: DeviceKey,
        limits: DeliveryLimits,
        counters: Counter[str],
        *,
        transport_limits: TransportLimits = DEFAULT_LIMITS,
        unanswered: Setbacks | None = None,
    ) -> None:
        """`unanswered`: dials that failed, as other pools know them, too."""
        self._endpoint = endpoint
        self._own = own
        self._limits = limits
        self._transport_limits = transport_limits
        self._counters = counters
        self._loop = asyncio.get_running_loop()
        self._processes: dict[ProcessKey, _Process] = {}
        self._lost = Setbacks(limits)
        self._unanswered = self._lost if unanswered is None else unanswered
        self._ours: dict[DeviceKey, _Process] = {}  # by relay: where our mailbox is read
        self._tasks = Supervisor(self._crashed)
        self.keep: tuple[RelayAddress, ...] = ()
        self.tokens: dict[DeviceKey, bytes] = {}  # of relays that let in who shows one
        self._closing = False

    async def client(
        self, address: RelayAddress, *, owner: DeviceKey | None = None, eager: bool = False
    ) -> RelayClient:
        """The relay, connected at the process for what is `owner`'s; None: for what is ours.

        Dials, or joins whoever is dialling; a process that does not answer soon is overtaken by
        the next. Raises the most telling Fault of the dials, or of the last ones while a failed
        relay is backed off (`eager` dials all the same).
        """
        order = [self._process(each) for each in self.order(address, owner)]
        client = order[0].client
        if client is None:
            limits = self._limits
            client = await race(
                [partial(self._connected, each, eager) for each in order],
                stagger_s=limits.relay_next_s,
                deadline_s=limits.relay_dial_s + limits.relay_call_s,
                discard=lambda second: None,  # whoever asks next has it
            )
        process = next(each for each in order if each.address == client.address)
        process.used_at = self._loop.time()
        if owner is None:
            self._ours[address.device] = process
        return client

    def order(self, address: RelayAddress, owner: DeviceKey | None) -> list[RelayAddress]:
        """Its processes, each an address of its own: the owner's order (None: ours), and last those
        that failed of late, were lost just now or are being dialled without an answer."""
        if not address.others:
            return [address]
        now = self._loop.time()
        places = address.order_for(self._own if owner is None else owner)
        found = [RelayAddress(place, address.device) for place in places]
        found.sort(key=lambda each: self._yields(each, now))
        return found

    def connected(self, address: RelayAddress) -> bool:
        return any(each.client is not None for each in self._known(address))

    def why_not(self, address: RelayAddress) -> str | None:
        """The code of the last failure to connect; None if it was not tried."""
        return next((each.fault.code for each in self._known(address) if each.fault), None)

    def retry_in(self, address: RelayAddress) -> float:
        """Seconds until a failed relay is dialled again."""
        now = self._loop.time()
        waits = [max(0.0, each.not_before - now) for each in self._known(address)]
        return min(waits, default=0.0)

    def better_in(self, address: RelayAddress, client: RelayClient) -> float | None:
        """Seconds until a process that is to be preferred to this client's may be there again, for
        what is ours; None while this one is the first."""
        now = self._loop.time()
        waits = []
        for place in address.order_for(self._own):
            if place == client.address.address:
                break
            process = self._processes.get((address.device, place), _Process(address))
            there = process.client is not None
            least = self._limits.relay_retry_first_s if there else self._limits.relay_quiet_s
            pause = self._yields_until((address.device, place)) - now
            waits.append(max(pause, process.not_before - now, least))
        return min(waits, default=None)

    def prove(self) -> None:
        """We are on another network: a relay follows at once, or is dialled anew."""
        self._lost.clear()
        self._unanswered.clear()
        for process in self._processes.values():
            process.not_before = 0.0
            if process.client is not None:
                self._tasks.start(
                    self._prove(process.client.connection, self._limits.moved_proof_s),
                    name="relay-proof",
                )

    async def _prove(self, connection: Connection, within_s: float) -> None:
        try:
            await connection.ping(within_s)
        except Fault:
            connection.close_now(CloseCode.NORMAL, "no answer")

    async def close(self) -> None:
        self._closing = True
        for process in self._processes.values():
            if process.task is not None:
                process.task.cancel()
        await self._tasks.close(self._limits.flush_s)

    # --- which process

    def _yields(self, address: RelayAddress, now: float) -> bool:
        key = address.device, address.address
        if self._yields_until(key) > now:
            return True
        process = self._processes.get(key)
        if process is None:
            return False
        dialing = process.ready is not None and process.client is None
        return process.lost or (dialing and now - process.dialed_at >= self._limits.relay_next_s)

    def _yields_until(self, key: ProcessKey) -> float:
        return max(self._lost.until(key), self._unanswered.until(key))

    def _process(self, address: RelayAddress) -> _Process:
        process = self._processes.get((address.device, address.address))
        if process is None:
            self._make_room()
            process = _Process(address)
            self._processes[process.key] = process
        return process

    def _known(self, address: RelayAddress) -> list[_Process]:
        keys = [(address.device, each) for each in address.processes]
        return [self._processes[key] for key in keys if key in self._processes]

    # --- one process

    async def _connected(self, process: _Process, eager: bool) -> RelayClient:
        if process.task is not None and process.lost:
            await asyncio.wait([process.task])
        now = self._loop.time()
        if process.ready is None:
            if self._closing:
                raise Unreachable("stopping", "the node is stopping")
            if now < process.not_before and not eager and process.fault is not None:
                raise process.fault.with_traceback(None)
            process.dialed_at = now
            process.ready = self._loop.create_future()
            process.task = self._tasks.start(self._hold(process, process.ready), name="relay")
        process.used_at = now
        return await asyncio.shield(process.ready)

    async def _hold(self, process: _Process, ready: asyncio.Future[RelayClient]) -> None:
        """Connect, and stay until the process goes or nobody has wanted it for a while."""
        try:
            connection = await self._endpoint.dial(
                [TransportAddress(*process.address.address)],
                expected=process.address.device,
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
                        process.address,
                        connection,
                        limits=self._limits,
                        access_token=lambda: self.tokens.get(process.address.device, b""),
                    )
                    await client.health()  # it answers, and not only its transport
                    process.failures, process.not_before, process.fault = 0, 0.0, None
                    ready.set_result(client)
                    await self._stay(process, client)
            finally:
                connection.close_now()
        except Fault as fault:
            if not ready.done():
                self._fail(process, fault)
                ready.set_exception(fault)
                ready.exception()  # retrieved: whoever asked may have gone
        finally:
            if not ready.done():
                ready.set_exception(Unreachable("stopping", "the node is stopping"))
                ready.exception()
            process.ready = None
            process.task = None

    async def _stay(self, process: _Process, client: RelayClient) -> None:
        limits = self._limits
        closed = asyncio.ensure_future(client.connection.wait_closed())
        try:
            while not closed.done():
                now = self._loop.time()
                if not self._kept(process) and now - process.used_at >= limits.relay_idle_s:
                    return
                # Whether there is somewhere to go may be another matter before long.
                look_s = min(limits.relay_idle_s / 4, limits.relay_quiet_s)
                if self._has_others(process):
                    quiet = now - client.connection.last_heard_at
                    if quiet + TIMER_SLACK_S >= limits.relay_quiet_s:
                        await self._prove(client.connection, limits.relay_proof_s)
                    else:
                        look_s = min(look_s, limits.relay_quiet_s - quiet)
                await asyncio.wait({closed}, timeout=look_s)
        finally:
            closed.cancel()
        self._lost.note(process.key, self._loop.time())

    def _kept(self, process: _Process) -> bool:
        device = process.address.device
        return self._ours.get(device) is process and any(
            relay.device == device for relay in self.keep
        )

    def _has_others(self, process: _Process) -> bool:
        """It is ours, and there is somewhere to go if it is silent."""
        return self._kept(process) and any(
            relay.others for relay in self.keep if relay.device == process.address.device
        )

    def _fail(self, process: _Process, fault: Fault) -> None:
        self._counters[f"relay-{fault.code}"] += 1
        process.fault = fault
        limits = self._limits
        pause = growing(limits.relay_retry_first_s, process.failures, limits.relay_retry_last_s)
        process.failures += 1
        process.not_before = self._loop.time() + pause
        self._unanswered.note(process.key, process.dialed_at)
        log.info("%r: %s", process.address, fault)

    def _make_room(self) -> None:
        if len(self._processes) < self._limits.relays_at_once:
            return
        others = [each for each in self._processes.values() if not self._kept(each)]
        free = [each for each in others if each.ready is None]
        if not free and others:
            free = [min(others, key=lambda process: process.used_at)]
        for process in free[:1]:
            if process.task is not None:
                process.task.cancel()
            del self._processes[process.key]

    def _crashed(self, name: str) -> None:
        self._counters[f"{name}-crashed"] += 1
