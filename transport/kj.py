"""A QUIC stream in the shape that pycapnp wants: the transport under its stream protocol.

What holds here was found by breaking it: a method that KJ calls and that raises ends the KJ loop of
the whole process, so none does; `eof_received` followed by a read dereferences null, so the end is
always `connection_lost`; data is fed only between `resume_reading` and `pause_reading`.

pycapnp is untyped. `Untyped` is the one name under which its objects travel in this package.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import capnp

from schemas.errors import Blame, Fault, Refused

from .collector import collecting_here
from .compact import Signal
from .limits import TransportLimits
from .rpc_messages import read_message_untrusted, read_own_message
from .rpc_tables import RpcTables
from .stream import Stream

Untyped = Any
KjException: type[Exception] = capnp.KjException

_READ_BYTES = 65_536
_FLUSH_S = 1.0  # for the last words of a connection that is over anyway


@asynccontextmanager
async def kj_loop() -> AsyncIterator[None]:
    """Run Cap'n Proto's event loop inside this asyncio loop, as the outermost context.

    A process's main coroutine runs inside `async with kj_loop():`; `serve_rpc` and `connect_rpc`
    need it. Raises RuntimeError when it already runs in this thread.
    """
    async with capnp.kj_loop():
        with collecting_here():
            yield


def new_capability(interface: Untyped, server: object) -> Untyped:
    """`server`, which has the methods of `interface`, as a capability."""
    return interface._new_client(server)


class KjTransport:
    """Moves messages between a Stream and a pycapnp protocol; `run` is the only task it needs.

    KJ gets whole messages, and none that `RpcTables` refuses; one that has begun has a deadline.
    """

    def __init__(self, stream: Stream, limits: TransportLimits, tables: RpcTables) -> None:
        self._stream = stream
        self._limits = limits
        self._tables = tables
        self._want_data = Signal()  # KJ has a read outstanding
        self._room = Signal()  # perhaps, since a call was held back
        self._progress = Signal()  # a method began, or something was sent
        self._out = bytearray()
        self._out_unread = bytearray()  # the beginning of a message whose end KJ has yet to write
        self._out_ready = Signal()
        self._out_paused = False
        self._out_ended = False
        self._closed = False
        self._why_over: asyncio.Future[Fault | None] = asyncio.get_running_loop().create_future()
        connected: asyncio.Future[Untyped] = asyncio.get_running_loop().create_future()
        self._protocol: Untyped = capnp.AsyncIoStream._connect(connected.set_result)
        self._protocol.connection_made(self)
        self.io: Untyped = connected.result()

    def room_for_calls(self) -> None:
        """A call that is held back is looked at anew."""
        self._room.set()

    def method_began(self) -> None:
        self._progress.set()

    async def answered(self) -> None:
        """Wait until the stream has the answers of all methods that have ended."""
        while self._tables.owing:
            self._progress.clear()
            await self._progress.wait()

    # asyncio.Transport, as far as pycapnp calls it; nothing here may raise

    def pause_reading(self) -> None:
        self._want_data.clear()

    def resume_reading(self) -> None:
        self._want_data.set()

    def write(self, data: bytes) -> None:
        self._out += data
        self._out_ready.set()
        if len(self._out) > self._limits.rpc_write_buffer and not self._out_paused:
            self._out_paused = True
            self._protocol.pause_writing()

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self._out_ended = True
        self._out_ready.set()

    def is_closing(self) -> bool:
        return self._closed

    def close(self) -> None:
        self._closed = True
        self.write_eof()

    # The pumps

    async def run(self) -> Fault | None:
        """Pump until the stream ends, or KJ has said its last; returns why, if a fault.

        Ends the protocol before it returns, so that every pending call fails at once.
        """
        pumps = {
            asyncio.create_task(self._pump_in(), name="rpc in"),
            asyncio.create_task(self._pump_out(), name="rpc out"),
        }
        fault: Fault | None = None
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.lose("the stream is over")
            for pump in pumps:
                pump.cancel()
            ends = await asyncio.gather(*pumps, return_exceptions=True)
        for end in ends:
            if isinstance(end, Fault):
                fault = fault or end
            elif isinstance(end, Exception) and not isinstance(end, KjException):
                raise end
        if fault is None:
            fault = await self._say_last_words()
        if not self._why_over.done():
            self._why_over.set_result(fault)
        return fault

    async def why_over(self, within_s: float) -> Fault | None:
        """What `run` returned or is about to; None when it does not end `within_s`."""
        done, _ = await asyncio.wait({self._why_over}, timeout=within_s)
        return self._why_over.result() if done else None

    def lose(self, why: str) -> None:
        """Tell KJ that the connection is gone. Idempotent."""
        if not self._closed or self._protocol.transport is not None:
            self._closed = True
            self._protocol.connection_lost(why)

    async def _pump_in(self) -> None:
        buffer = bytearray()
        until: float | None = None  # the rest of a message that has begun
        while True:
            await self._want_data.wait()
            data = await self._read(until)
            if not data:
                return
            buffer += data
            fed = at = 0
            while message := read_message_untrusted(buffer, at, self._limits.rpc_message):
                self._room.clear()
                if self._tables.received(message, message.end - at):
                    at = message.end
                    continue
                await self._feed(buffer, fed, at)
                fed = at
                await self._room.wait()
            await self._feed(buffer, fed, at)
            if not buffer[at:]:
                until = None
            elif at or until is None:
                until = asyncio.get_running_loop().time() + self._limits.rpc_message_deadline_s
            del buffer[:at]
            self._tables.unread(len(buffer))

    async def _read(self, until: float | None) -> bytes:
        """Raises Refused `rpc-slow` when nothing came by then."""
        if until is None:
            return await self._stream.read(_READ_BYTES)
        try:
            async with asyncio.timeout_at(until):
                return await self._stream.read(_READ_BYTES)
        except TimeoutError as error:
            raise Refused(
                "rpc-slow",
                f"An RPC message not all there after {self._limits.rpc_message_deadline_s:g} s",
                blame=Blame.PEER,
            ) from error

    async def _feed(self, buffer: bytearray, begin: int, end: int) -> None:
        with memoryview(buffer) as data:
            while begin < end:
                await self._want_data.wait()
                room = self._protocol.get_buffer(-1)
                size = min(len(room), end - begin)
                room[:size] = data[begin : begin + size]
                begin += size
                self._protocol.buffer_updated(size)

    async def _pump_out(self) -> None:
        while True:
            await self._out_ready.wait()
            self._out_ready.clear()
            while self._out:
                data = bytes(self._out)
                self._out.clear()
                self._note_sent(data)
                await self._stream.write(data)
                if self._out_paused:
                    self._out_paused = False
                    self._protocol.resume_writing()
            if self._out_ended:
                await self._stream.finish()
                return

    def _note_sent(self, data: bytes) -> None:
        # KJ writes piece by piece and may be paused between two; mostly all is there.
        self._out_unread += data
        at = 0
        while message := read_own_message(self._out_unread, at):
            self._tables.sent(message)
            at = message.end
        del self._out_unread[:at]
        self._progress.set()
        self.room_for_calls()

    async def _say_last_words(self) -> Fault | None:
        """KJ's abort message says why; it is worth a moment, not a wait."""
        try:
            async with asyncio.timeout(_FLUSH_S):
                if self._out:
                    await self._stream.write(bytes(self._out))
                await self._stream.finish()
        except TimeoutError:
            pass
        except Fault as fault:
            return fault
        return None
