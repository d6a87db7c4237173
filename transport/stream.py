"""One bidirectional QUIC stream: ordered bytes both ways, bounded in memory at both ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from .compact import Queue
from .errors import ConnectionLost, StreamCode, StreamReset


class StreamHost(Protocol):
    """What a stream needs of its connection."""

    def lost(self) -> ConnectionLost | None: ...
    def room(self, stream: Stream) -> int: ...
    def write_soon(self, stream: Stream, size: int) -> None: ...
    def reset_stream(self, stream: Stream, code: int) -> None: ...
    def stop_stream(self, stream: Stream, code: int) -> None: ...
    def consumed(self, stream: Stream, size: int) -> None: ...
    def acknowledged(self, stream: Stream) -> bool: ...
    def finished(self, stream: Stream) -> None: ...
    async def wait_until(
        self, condition: Callable[[], bool], deadline_s: float | None = None
    ) -> None: ...


class Stream:
    """A bidirectional stream; made by `Connection.open_stream` and `accept_stream`.

    One task may read and any number may write; the bytes of one `write` stay together.
    """

    def __init__(self, host: StreamHost, stream_id: int, *, wake_room: int) -> None:
        self.stream_id = stream_id
        self._host = host
        # A waiting writer wakes for this much room, not for each acknowledged packet.
        self._wake_room = wake_room
        self._chunks: Queue[bytes] = Queue()
        self._received = 0
        self._read_over = False  # the end, a reset, or our own stop
        self._read_fault: StreamReset | None = None
        self._reader: asyncio.Future[None] | None = None
        self._write_over = False
        self._write_reset = False
        self._write_fault: StreamReset | None = None
        self._write_lock = asyncio.Lock()
        self.pending = bytearray()  # written and not yet handed to QUIC: coalesced per turn
        self.pending_end = False

    # Reading

    async def read(self, max_bytes: int = 65_536) -> bytes:
        """The next bytes, at most `max_bytes` (at least 1); `b""` at the end of the stream.

        Raises StreamReset when the peer ended it abruptly, ConnectionLost when the connection is
        over (what had arrived before is returned first).
        """
        if max_bytes < 1:
            raise ValueError("max_bytes must be positive")
        while not self._chunks:
            if self._read_fault is not None:
                raise self._read_fault
            if self._read_over:
                return b""
            if (lost := self._host.lost()) is not None:
                raise lost
            if self._reader is not None:
                raise RuntimeError("two tasks read one stream")
            self._reader = asyncio.get_running_loop().create_future()
            try:
                await self._reader
            finally:
                self._reader = None
        taken = [self._chunks.popleft()]
        size = len(taken[0])
        while self._chunks and size + len(self._chunks[0]) <= max_bytes:
            size += len(self._chunks[0])
            taken.append(self._chunks.popleft())
        if size > max_bytes:
            self._chunks.appendleft(taken[0][max_bytes:])
            taken[0] = taken[0][:max_bytes]
            size = max_bytes
        self._host.consumed(self, size)
        return taken[0] if len(taken) == 1 else b"".join(taken)

    def stop(self, code: int = StreamCode.CANCELLED) -> None:
        """Read no more: what arrived is dropped and the peer is told to stop sending."""
        if not self._read_over:
            self._read_over = True
            self._read_fault = StreamReset.by_us(self.stream_id)
            self._host.stop_stream(self, code)
        self._drop_unread()
        self._wake_reader()
        self._check_finished()

    # Writing

    async def write(self, data: bytes | bytearray | memoryview) -> None:
        """Queue `data` for sending; waits while `stream_buffer` bytes are unacknowledged.

        Raises StreamReset when this direction is over, ConnectionLost when the connection is.
        """
        if not self._write_lock.locked():
            self._check_writable()
            if len(data) <= self._host.room(self):
                self.pending += data
                self._host.write_soon(self, len(data))
                return
        async with self._write_lock:
            rest = memoryview(data)
            while rest:
                self._check_writable()
                room = self._host.room(self)
                if room <= 0:
                    await self._host.wait_until(self._may_go_on)
                    continue
                part = rest[:room]
                rest = rest[room:]
                self.pending += part
                self._host.write_soon(self, len(part))

    async def finish(self) -> None:
        """Say that nothing follows; the peer reads `b""` after the last byte. Idempotent."""
        if self._write_lock.locked():
            async with self._write_lock:
                self._finish()
        else:
            self._finish()

    async def drain(self, deadline_s: float | None = None) -> None:
        """Wait until the peer's QUIC has acknowledged every byte written.

        That is not the peer's application: see acks for that. Raises Unreachable `deadline`,
        StreamReset, ConnectionLost.
        """
        await self._host.wait_until(lambda: self._write_reset or self._drained(), deadline_s)
        if self._write_reset and self._write_fault is not None:
            raise self._write_fault
        if (lost := self._host.lost()) is not None:
            raise lost

    def reset(self, code: int = StreamCode.CANCELLED) -> None:
        """End the writing side abruptly: unsent bytes are dropped, the peer's reads raise."""
        if self._write_reset:
            return
        self.end_writing(StreamReset.by_us(self.stream_id))
        self._host.reset_stream(self, code)
        self._check_finished()

    def cancel(self, code: int = StreamCode.CANCELLED) -> None:
        """`reset` and `stop`: nothing more in either direction. Idempotent."""
        if not self._write_over:
            self.reset(code)
        self.stop(code)

    # Called by the connection

    def feed(self, data: bytes, *, end: bool) -> None:
        self._received += len(data)
        if self._read_over:
            self._host.consumed(self, len(data))  # after stop(): still counts as credit
            return
        if data:
            self._chunks.append(data)
        if end:
            self._read_over = True
        self._wake_reader()
        self._check_finished()

    def end_reading(self, fault: StreamReset) -> int:
        """The peer reset its side. Returns how many bytes had been delivered."""
        if not self._read_over:
            self._read_over = True
            self._read_fault = fault
        self._drop_unread()
        self._wake_reader()
        self._check_finished()
        return self._received

    def end_writing(self, fault: StreamReset) -> None:
        self._write_over = True
        self._write_reset = True
        self._write_fault = fault
        self.pending.clear()
        self.pending_end = False
        self._check_finished()

    def connection_over(self) -> None:
        self.pending.clear()
        self._wake_reader()

    # Inside

    def _finish(self) -> None:
        if self._write_over:
            return
        if (lost := self._host.lost()) is not None:
            raise lost
        self._write_over = True
        self.pending_end = True
        self._host.write_soon(self, 0)
        self._check_finished()

    def _check_writable(self) -> None:
        if (lost := self._host.lost()) is not None:
            raise lost
        if self._write_over:
            raise self._write_fault or StreamReset.by_us(self.stream_id)

    def _drained(self) -> bool:
        # A receipt may empty the stream while a writer still waits to add the rest.
        return not self._write_lock.locked() and self._host.acknowledged(self)

    def _may_go_on(self) -> bool:
        return self._write_over or self._host.room(self) >= self._wake_room

    def _drop_unread(self) -> None:
        unread = sum(map(len, self._chunks))
        self._chunks.clear()
        if unread:
            self._host.consumed(self, unread)

    def _wake_reader(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    def _check_finished(self) -> None:
        if self._read_over and self._write_over:
            self._host.finished(self)
