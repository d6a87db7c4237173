"""The running relay: its folder, key, store and endpoint, put together and taken apart in order."""

from __future__ import annotations

import asyncio
import datetime
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version

import transport
from relay.address import SET_ADVERTISE, is_local_guess, reachable_at, remember_address
from relay.blob_methods import BlobTtl
from relay.call import Line
from relay.callers import Caller
from relay.clock import ClockDoubt
from relay.config import RelayConfig
from relay.dht import RelayDht
from relay.keys import relay_device, shared_device
from relay.metrics import RelayMetrics
from relay.monitoring import Monitoring, monitored
from relay.processes import Membership
from relay.refusals import TryLater
from relay.rpc import CallDesk
from relay.service import RelayService, draining_refusal
from relay.store.contract import RelayStore
from relay.store.opening import open_store
from schemas.addresses import Address, RelayAddress
from schemas.dht import DHT_ALPN
from schemas.errors import Fault
from schemas.ids import DeviceKey
from schemas.node_service import RELAY_ALPN
from storage.files import close_to_others
from storage.lock import FolderLock
from telemetry.correlation import Trace, new_connection
from transport import (
    DEFAULT_LIMITS,
    CloseCode,
    Connection,
    ConnectionLost,
    Endpoint,
    Handler,
    RpcSession,
    Stream,
    StreamCode,
    TransportLimits,
)
from transport.admission import REFUSALS
from transport.udp import Bind

log = logging.getLogger(__name__)

DISTRIBUTION = "quicnprotochat"
HOUSEKEEPING = "housekeeping"
REVOCATIONS = "revocations"
SWEEP_EVERY_S = 60.0
PROBE_EVERY_S = 5.0  # while the disk refuses
STOP_DEADLINE_S = 5.0  # for calls that run when the relay is told to stop
NOT_CALLERS = 1_000  # connections that are being refused, and those of the DHT


@dataclass(frozen=True, slots=True)
class Relay:
    """A relay that answers calls. `listen` is where it is bound, `address` what nodes are given."""

    listen: Address
    address: RelayAddress
    device: DeviceKey
    store: RelayStore
    desk: CallDesk
    service: RelayService
    counters: Counter[str]  # streams and calls that broke the protocol, by reason
    monitoring: Monitoring
    membership: Membership | None  # None: the store is its own

    @property
    def metrics(self) -> Address | None:
        """Where /metrics and /health are."""
        return self.monitoring.address


@asynccontextmanager
async def open_relay(
    config: RelayConfig,
    *,
    clock: Callable[[], float] = time.time,
    limits: TransportLimits = DEFAULT_LIMITS,
    certificate_clock: Callable[[], float] = time.time,
    bind: Bind | None = None,
) -> AsyncIterator[Relay]:
    """Run a relay for the length of the block; inside `transport.kj_loop()`.

    Leaving it stops cleanly: new calls are refused, running ones are answered, connections close,
    and what was accepted is on disk. `clock` gives Unix seconds, as does
    `certificate_clock`, by which certificates are valid. `bind` is as Endpoint.open's.

    Raises Fault: `already-running`, `port-busy`, `cannot-bind`, `database-newer`,
    `database-damaged`, `damaged-seed`, `cannot-use-folder` and the like.
    """
    loop = asyncio.get_running_loop()
    started = loop.time()

    def utc_now() -> datetime.datetime:
        return datetime.datetime.fromtimestamp(certificate_clock(), datetime.UTC)

    async with AsyncExitStack() as stack:
        # The database may be kept apart from the folder; neither may have a second owner.
        for folder in config.folders:
            stack.enter_context(FolderLock(folder))
        close_to_others(config.private_files)
        metrics = RelayMetrics()
        lived = config.store_backend == "sqlite" and config.database.exists()
        store = await open_store(config, metrics.observe_commit)
        stack.push_async_callback(store.close)
        if store.processes is None:
            device = relay_device(config, lived=lived)
        else:
            device = await shared_device(config, store.processes)
        await _audit(store, "relay-started", device.public, clock)
        stack.push_async_callback(_audit, store, "relay-stopped", device.public, clock)
        service = RelayService(
            store,
            parcel_ttl_s=config.parcel_ttl_s,
            blob_ttl=BlobTtl(config.blob_ttl_s, config.unfinished_blob_ttl_s),
            version=version(DISTRIBUTION),
            clock=clock,
            uptime=lambda: loop.time() - started,
            device=device.public,
            admission=config.admission,
            auth_token=config.auth_token,
            limits=config.limits,
        )
        desk = CallDesk(service, metrics.observe_call)
        limits = replace(
            limits,
            max_connections=config.limits.connections + NOT_CALLERS,
            rpc_calls_in_flight=config.limits.calls_per_stream,
        )
        front = _Front(desk, service, limits)
        # Up until the end: health says that the relay drains.
        monitoring = await stack.enter_async_context(monitored(config, service, metrics, clock))
        handlers: dict[str, Handler] = {RELAY_ALPN: front.serve}
        dht = None
        if config.dht:
            dht = RelayDht(config.dht_bootstrap, clock, limits, utc_now, bind)
            handlers[DHT_ALPN] = dht.service.serve
        endpoint = await Endpoint.open(
            device.private,
            transport.Address(*config.listen),
            handlers=handlers,
            limits=limits,
            utc_now=utc_now,
            bind=bind,
        )
        stack.push_async_callback(endpoint.close)
        if dht is not None:
            await stack.enter_async_context(dht.taking_part(endpoint))
            metrics.watch_dht(dht.service)
        metrics.watch(
            service,
            store,
            lambda: endpoint.counters + front.counters,
            lambda: front.counters + Counter({each: endpoint.counters[each] for each in REFUSALS}),
        )
        stack.push_async_callback(desk.stop, STOP_DEADLINE_S)
        doubt = ClockDoubt(clock(), loop.time)
        for name, work in (
            (HOUSEKEEPING, partial(_keep_house, store, clock, doubt, config.audit_days)),
            (REVOCATIONS, partial(_follow_revocations, store, service)),
        ):
            stack.push_async_callback(_end, store.upkeep.start(name, work))
        listen = Address(*endpoint.address)
        here = reachable_at(config, listen)
        if is_local_guess(config, here):
            log.warning("nodes elsewhere cannot reach %s: %s", here, SET_ADVERTISE)
        address = RelayAddress(here, device.public)
        membership = None
        if store.processes is not None:
            membership = Membership(
                store.processes,
                here,
                version(DISTRIBUTION),
                store.upkeep,
                named=config.advertise is not None,
            )
            await stack.enter_async_context(membership.announced())
            service.processes = lambda: membership.told
            address = address.at(membership.live)
            service.address = lambda: address.at(membership.live)
        else:
            remember_address(config, address)
            service.address = lambda: address
        yield Relay(
            listen,
            address,
            device.public,
            store,
            desk,
            service,
            front.counters,
            monitoring,
            membership,
        )


class _Front:
    """Takes the streams of each connection and puts a NodeService behind every one."""

    def __init__(self, desk: CallDesk, service: RelayService, limits: TransportLimits) -> None:
        self._desk = desk
        self._service = service
        self._limits = limits
        self.counters: Counter[str] = Counter()

    async def serve(self, connection: Connection) -> None:
        trace = new_connection()
        log.debug("it is %r from %s", connection.peer, connection.remote)
        try:
            if self._desk.stopping:
                raise draining_refusal()
            with self._service.callers.connected(connection.peer, connection.remote.host) as caller:
                caller.hang_up = lambda reason: self._hang_up(connection, reason)
                connection.on_moved(lambda: self._service.subscriptions.moved(caller, connection))
                try:
                    await self._serve_streams(connection, caller, trace)
                finally:
                    await caller.settle()
        except TryLater as refusal:
            self.counters[refusal.code] += 1
            log.info("a connection was refused: %s", refusal.code)
            connection.close_now(CloseCode.NORMAL, refusal.code)

    def _hang_up(self, connection: Connection, reason: str) -> None:
        self.counters[reason] += 1
        connection.close_now(CloseCode.NORMAL, reason)

    async def _serve_streams(self, connection: Connection, caller: Caller, trace: Trace) -> None:
        streams: set[asyncio.Task[None]] = set()
        async with asyncio.TaskGroup() as tasks:
            while not connection.closed:
                try:
                    stream = await connection.accept_stream()
                except ConnectionLost:
                    return
                if len(streams) >= self._service.callers.limits.streams_per_connection:
                    self.counters["too-many-streams"] += 1
                    stream.cancel(StreamCode.REFUSED)
                    continue
                task = tasks.create_task(self._serve_stream(connection, caller, stream, trace))
                streams.add(task)
                task.add_done_callback(streams.discard)

    def _session(self, caller: Caller) -> RpcSession:
        return RpcSession(self._limits, self.counters, caller.memory.note)

    async def _serve_stream(
        self, connection: Connection, caller: Caller, stream: Stream, trace: Trace
    ) -> None:
        line = Line(caller, connection, self._session(caller), stream, trace)
        try:
            await transport.serve_rpc(stream, self._desk.server_for(line), session=line.rpc)
        except Fault as fault:
            self.counters[fault.code] += 1
            log.info("a stream ended: %s", fault.code)
        finally:
            self._service.end_line(line)


async def _audit(
    store: RelayStore, event: str, device: DeviceKey, clock: Callable[[], float]
) -> None:
    try:
        await store.audit.append(event, f"device:{device}", now=int(clock()))
    except Fault as fault:  # mail that is there can be read with a full disk, too
        log.error("the audit log takes no %s: %s", event, fault)


async def _keep_house(
    store: RelayStore, clock: Callable[[], float], doubt: ClockDoubt, audit_days: int
) -> None:
    """At once and then every minute, see whether the disk takes writes, and delete what has
    expired, in small transactions; more often while the disk does not."""
    while True:
        try:
            await store.probe(now=int(clock()))
            swept = 0
            while doubt.trusts(clock()) and (count := await store.sweep(now=int(clock()))):
                swept += count
            if doubt.trusts(clock()):
                now = int(clock())
                await store.audit.trim(now - audit_days * 86400, now=now)
            if swept:
                log.info("%d expired rows deleted", swept)
            store.upkeep.got_through(HOUSEKEEPING)
        except Fault as fault:
            store.upkeep.held_up(HOUSEKEEPING, fault, "the store takes no writes")
        await asyncio.sleep(SWEEP_EVERY_S if store.trouble is None else PROBE_EVERY_S)


async def _follow_revocations(store: RelayStore, service: RelayService) -> None:
    """At once and then every minute; apart from the rest, which may fail for long."""
    while True:
        try:
            await service.look_again()
            store.upkeep.got_through(REVOCATIONS)
        except Fault as fault:
            store.upkeep.held_up(REVOCATIONS, fault, "who was revoked cannot be read")
        await asyncio.sleep(SWEEP_EVERY_S if store.trouble is None else PROBE_EVERY_S)


async def _end(task: asyncio.Task[None]) -> None:
    """Cancel and wait; what the task died of before, if it did, is logged."""
    task.cancel()
    [error] = await asyncio.gather(task, return_exceptions=True)
    if isinstance(error, Exception):
        log.error("task %s crashed", task.get_name(), exc_info=error)
