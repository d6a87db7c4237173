"""Answers strangers over QUIC: a stream for each request, and bounds on all of it."""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager

from discovery.dht.dial_back import DialBacker
from discovery.dht.exchange import only_frame_untrusted
from discovery.dht.quic_limits import DEFAULT_QUIC_LIMITS, QuicLimits
from discovery.dht.rpc import Asker
from schemas.dht import (
    DhtError,
    DhtResponse,
    DialBack,
    FindNode,
    FindValue,
    Store,
    decode_dht_request,
    encode_dht_response,
)
from schemas.errors import Malformed
from schemas.limits import DHT_REQUEST
from transport import (
    CloseCode,
    Connection,
    ConnectionLost,
    Stream,
    StreamCode,
    StreamReset,
    write_frame,
)
from transport.admission import prefix_of
from transport.rate import Buckets, TokenBucket

Answer = Callable[[Asker, FindNode | FindValue | Store], DhtResponse]


class DhtServer:
    """The handler of the ALPN. `answer` never raises; `counts[reason]` says what was refused."""

    def __init__(
        self,
        answer: Answer,
        dial_backer: DialBacker,
        *,
        limits: QuicLimits = DEFAULT_QUIC_LIMITS,
    ) -> None:
        self._answer = answer
        self._dial_backer = dial_backer
        self._limits = limits
        self.counts: Counter[str] = Counter()
        self._loop = asyncio.get_running_loop()
        self._here: OrderedDict[_Asker, None] = OrderedDict()  # the longest idle first
        self._connected: Counter[Hashable] = Counter()  # by device and by prefix
        self._devices: Buckets[Hashable] = Buckets(limits.device_rate, limits.device_burst)
        self._prefixes: Buckets[Hashable] = Buckets(limits.prefix_rate, limits.prefix_burst)

    @property
    def connections(self) -> int:
        return len(self._here)

    async def serve(self, connection: Connection) -> None:
        """One accepted connection, until it is over, or says nothing more."""
        asker = _Asker(self, connection)
        with self._admitted(asker, connection) as admitted:
            if admitted:
                await asker.serve()

    @contextmanager
    def _admitted(self, asker: _Asker, connection: Connection) -> Iterator[bool]:
        limits = self._limits
        caps: list[tuple[Hashable, int]] = [(connection.peer, limits.accepted_per_device)]
        prefix = prefix_of(connection.remote.host)
        if prefix is not None:
            caps.append((prefix, limits.accepted_per_prefix))
        full = any(self._connected[key] >= cap for key, cap in caps)
        if full or (len(self._here) >= limits.accepted and not self._let_one_go()):
            self.counts["too-many-connections"] += 1
            yield False
            return
        self._here[asker] = None
        for key, _ in caps:
            self._connected[key] += 1
        try:
            yield True
        finally:
            self._here.pop(asker, None)
            for key, _ in caps:
                self._connected[key] -= 1
                if not self._connected[key]:
                    del self._connected[key]

    def _let_one_go(self) -> bool:
        """Whoever asked nothing for longest makes room: nobody can keep all places."""
        idle = next((each for each in self._here if not each.busy), None)
        if idle is None:
            return False
        del self._here[idle]
        self.counts["let-go"] += 1
        idle.let_go()
        return True

    def asks(self, asker: _Asker) -> None:
        """It was not idle just now."""
        if asker in self._here:
            self._here.move_to_end(asker)

    def may_ask(self, connection: Connection) -> bool:
        """Whether its rates allow one more request, which counts from now."""
        buckets: list[TokenBucket] = [self._devices.of(connection.peer)]
        prefix = prefix_of(connection.remote.host)
        if prefix is not None:
            buckets.append(self._prefixes.of(prefix))
        now = self._loop.time()
        if any(bucket.wait_s(now) for bucket in buckets):
            return False
        for bucket in buckets:
            bucket.use(1, now)
        return True

    async def respond_untrusted(self, connection: Connection, request: bytes) -> bytes:
        """The response's bytes. Raises Malformed."""
        asked = decode_dht_request(request)
        asker = Asker(connection.peer, connection.remote)
        response: DhtResponse
        if isinstance(asked, DialBack):
            response = await self._dial_backer.dial(asker)
        else:
            response = self._answer(asker, asked)
        return encode_dht_response(response, str(asker.address))

    @property
    def limits(self) -> QuicLimits:
        return self._limits


class _Asker:
    """One connection and its streams."""

    def __init__(self, server: DhtServer, connection: Connection) -> None:
        self._server = server
        self._connection = connection
        self._limits = server.limits
        self._running: set[asyncio.Task[None]] = set()
        self._refusals = 0

    @property
    def busy(self) -> bool:
        return bool(self._running)

    def let_go(self) -> None:
        self._connection.close_now(CloseCode.NORMAL, "idle")

    async def serve(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            while (stream := await self._next()) is not None:
                self._server.asks(self)
                if len(self._running) >= self._limits.streams:
                    self._refuse("too-many-streams")
                    stream.cancel(StreamCode.REFUSED)
                    continue
                task = tasks.create_task(self._one(stream))
                self._running.add(task)
                task.add_done_callback(self._running.discard)

    async def _next(self) -> Stream | None:
        """None when the connection is over, or has been idle for too long."""
        while True:
            try:
                async with asyncio.timeout(self._limits.accepted_idle_s):
                    return await self._connection.accept_stream()
            except ConnectionLost:
                return None
            except TimeoutError:
                if not self._running:
                    return None

    async def _one(self, stream: Stream) -> None:
        """Raises Malformed, which closes the connection."""
        try:
            async with asyncio.timeout(self._limits.frame_s):
                request = await only_frame_untrusted(stream, DHT_REQUEST)
            if self._server.may_ask(self._connection):
                response = await self._server.respond_untrusted(self._connection, request)
            else:
                self._refuse("too-many-requests")
                response = encode_dht_response(
                    DhtError("too-many-requests", "ask more slowly"), str(self._connection.remote)
                )
            await write_frame(stream, response)
            await stream.finish()
            await stream.drain(self._limits.frame_s)
        except Malformed as fault:
            self._server.counts[fault.code] += 1
            raise
        except TimeoutError:
            self._server.counts["request-too-slow"] += 1
        except (StreamReset, ConnectionLost):
            pass  # nobody waits for the answer any more
        finally:
            stream.cancel()

    def _refuse(self, reason: str) -> None:
        self._server.counts[reason] += 1
        self._refusals += 1
        if self._refusals > self._limits.refusals_borne:
            self._connection.close_now(CloseCode.PROTOCOL, reason)
