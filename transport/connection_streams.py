"""The streams of one connection, between their users and QUIC: opening, credit, resets, buffers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from aioquic.quic import events

from schemas.errors import Blame, Refused, Unreachable

from .errors import ConnectionLost, StreamCode, StreamReset
from .limits import TransportLimits
from .quic import MutualQuicConnection
from .stream import Stream
from .stream_table import StreamTable


class Host(Protocol):
    """What the streams need of their connection, beside its QUIC."""

    def lost(self) -> ConnectionLost | None: ...
    def check_alive(self) -> None: ...
    def transmit_soon(self) -> None: ...
    def count(self, reason: str) -> None: ...
    async def wait_until(
        self, condition: Callable[[], bool], deadline_s: float | None = None
    ) -> None: ...


class ConnectionStreams:
    """All streams of a connection; the host of each (`stream.StreamHost`)."""

    def __init__(
        self, quic: MutualQuicConnection, limits: TransportLimits, host: Host, *, dialed: bool
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._quic = quic
        self._limits = limits
        self._host = host
        self.lost = host.lost
        self.wait_until = host.wait_until
        self._table = StreamTable(
            dialed=dialed,
            accept_queue=limits.accept_queue,
            make=lambda stream_id: Stream(self, stream_id, wake_room=limits.stream_buffer // 4),
            refuse=self._refuse,
        )
        self._dirty: set[Stream] = set()
        self._unsent = 0  # estimate over all streams, corrected by each transmit

    def __len__(self) -> int:
        return len(self._table)

    async def open(self) -> Stream:
        """See `Connection.open_stream`."""
        host, quic = self._host, self._quic
        host.check_alive()
        deadline = self._loop.time() + self._limits.stream_deadline_s
        while not quic.may_open_stream():  # again: one more allowed wakes all that wait
            try:
                await self.wait_until(quic.may_open_stream, deadline - self._loop.time())
            except Unreachable as error:
                raise Refused(
                    "too-many-streams", "The peer allows no more streams", blame=Blame.PEER
                ) from error
            host.check_alive()
        stream_id = quic.get_next_available_stream_id()
        quic.send_stream_data(stream_id, b"")  # reserves the id
        return self._table.add(stream_id)

    async def accept(self) -> Stream:
        """See `Connection.accept_stream`."""
        return await self._table.accept(self._host.check_alive)

    def connection_over(self) -> None:
        """Every stream ends, and whoever waits for one looks again."""
        self._table.connection_over()
        self._dirty.clear()

    # Called by streams

    def room(self, stream: Stream) -> int:
        held = self._quic.unacknowledged(stream.stream_id) + len(stream.pending)
        return min(self._limits.stream_buffer - held, self._limits.connection_buffer - self._unsent)

    def write_soon(self, stream: Stream, size: int) -> None:
        self._dirty.add(stream)
        self._unsent += size
        self._host.transmit_soon()

    def reset_stream(self, stream: Stream, code: int) -> None:
        if self.lost() is None:
            self._quic.reset_stream(stream.stream_id, code)
            self._host.transmit_soon()

    def stop_stream(self, stream: Stream, code: int) -> None:
        if self.lost() is None and not self._quic.receive_finished(stream.stream_id):
            self._quic.stop_stream(stream.stream_id, code)
            self._host.transmit_soon()

    def consumed(self, stream: Stream, size: int) -> None:
        if self.lost() is None and self._quic.consume(stream.stream_id, size):
            self._host.transmit_soon()

    def acknowledged(self, stream: Stream) -> bool:
        if stream.pending or stream.pending_end:
            return False
        return self._quic.unacknowledged(stream.stream_id) == 0

    def finished(self, stream: Stream) -> None:
        # Kept while bytes wait in `pending`; late data of a forgotten id is dropped by `on_data`.
        if self._table.forget(stream.stream_id):
            self._quic.forget_stream(stream.stream_id)

    # Events

    def on_data(self, event: events.StreamDataReceived) -> None:
        stream = self._table.find(event.stream_id)
        if stream is not None:
            stream.feed(event.data, end=event.end_stream)
        elif self._quic.consume(event.stream_id, len(event.data)):
            self._host.transmit_soon()

    def on_reset(self, event: events.StreamReset) -> None:
        stream = self._table.find(event.stream_id)
        if stream is not None:
            delivered = stream.end_reading(StreamReset.by_peer(event.stream_id, event.error_code))
            self._quic.consume_rest(event.stream_id, delivered)

    def on_stop(self, event: events.StopSendingReceived) -> None:
        stream = self._table.find(event.stream_id)
        if stream is None:  # done with, but for what waits to be handed over
            stream = next((each for each in self._dirty if each.stream_id == event.stream_id), None)
        if stream is not None:
            stream.end_writing(StreamReset.by_peer(event.stream_id, event.error_code))

    def _refuse(self, stream: Stream) -> None:
        self._host.count("stream-refused")
        stream.cancel(StreamCode.REFUSED)

    # Sending

    def hand_over(self) -> None:
        """Give QUIC what was written since, each stream's in one piece."""
        for stream in self._dirty:
            if stream.pending or stream.pending_end:
                self._quic.send_stream_data(
                    stream.stream_id, bytes(stream.pending), end_stream=stream.pending_end
                )
                stream.pending.clear()
                stream.pending_end = False
        self._dirty.clear()

    def recount(self) -> None:
        """What the peer has acknowledged makes room."""
        self._unsent = self._quic.unacknowledged_total()
