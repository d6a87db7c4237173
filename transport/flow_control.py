"""Flow control by consumption: the peer may send what the application has read, and no more.

aioquic raises its limits by what it has SEEN, so that 350 bytes claim 512 MiB of reassembly buffer.
"""

from __future__ import annotations

from typing import Any

from aioquic.quic.connection import MAX_STREAM_DATA_FRAME_CAPACITY, Limit, QuicConnection
from aioquic.quic.packet import QuicFrameType
from aioquic.quic.packet_builder import QuicPacketBuilder
from aioquic.quic.recovery import QuicPacketSpace
from aioquic.quic.stream import QuicStream

from .limits import TransportLimits


class _Credit(Limit):
    """The connection's receive limit, which aioquic may not double: only `grant` raises it."""

    def __init__(self, value: int) -> None:
        self._granted = value
        super().__init__(frame_type=QuicFrameType.MAX_DATA, name="max_data", value=value)

    @property
    def value(self) -> int:
        return self._granted

    @value.setter
    def value(self, value: int) -> None:
        """aioquic doubles the limit on what was SEEN; what counts is what was consumed."""

    def grant(self, value: int) -> None:
        self._granted = max(self._granted, value)


class FlowControlledConnection(QuicConnection):
    """A QuicConnection that grants credit as data is consumed."""

    def __init__(self, limits: TransportLimits, **aioquic: Any) -> None:
        super().__init__(**aioquic)
        self._stream_window = limits.stream_buffer
        self._connection_window = limits.connection_buffer
        self._consumed_total = 0
        self._consumed: dict[int, int] = {}
        self._credit = _Credit(limits.connection_buffer)
        self._local_max_data = self._credit
        self._local_max_streams_bidi.value = limits.max_streams
        self._local_max_streams_bidi.sent = limits.max_streams
        self._local_max_streams_uni.value = 0  # nothing here uses them
        self._local_max_streams_uni.sent = 0

    def consume(self, stream_id: int, size: int) -> bool:
        """`size` bytes of the stream were read by the application (or dropped for good).

        Returns whether a packet should go out for the credit alone.
        """
        due = False
        self._consumed_total += size
        target = self._consumed_total + self._connection_window
        if target - self._credit.value >= self._connection_window // 2:
            self._credit.grant(target)
            due = True
        stream = self._streams.get(stream_id)
        if stream is None:
            self._consumed.pop(stream_id, None)
        elif not stream.receiver.is_finished:
            consumed = self._consumed[stream_id] = self._consumed.get(stream_id, 0) + size
            due = due or self._due_limit(consumed, stream) is not None
        return due

    def _due_limit(self, consumed: int, stream: QuicStream) -> int | None:
        """The stream's next limit, once it is worth a frame."""
        target = consumed + self._stream_window
        worth = target - stream.max_stream_data_local >= self._stream_window // 2
        return target if worth else None

    def consume_rest(self, stream_id: int, delivered: int) -> bool:
        """The peer reset the stream: what it counted and never delivered is given back."""
        self._consumed.pop(stream_id, None)
        stream = self._streams.get(stream_id)
        if stream is None:
            return False
        return self.consume(stream_id, max(0, stream.receiver.highest_offset - delivered))

    def forget_stream(self, stream_id: int) -> None:
        """The application has read the stream to its end."""
        self._consumed.pop(stream_id, None)

    def _write_stream_limits(
        self, builder: QuicPacketBuilder, space: QuicPacketSpace, stream: QuicStream
    ) -> None:
        stream_id = stream.stream_id
        if stream_id is None or stream.receiver.is_finished:
            return
        target = self._due_limit(self._consumed.get(stream_id, 0), stream)
        if target is not None:
            stream.max_stream_data_local = target
        if stream.max_stream_data_local_sent == stream.max_stream_data_local:
            return
        buf = builder.start_frame(
            QuicFrameType.MAX_STREAM_DATA,
            capacity=MAX_STREAM_DATA_FRAME_CAPACITY,
            handler=self._on_max_stream_data_delivery,
            handler_args=(stream,),
        )
        buf.push_uint_var(stream_id)
        buf.push_uint_var(stream.max_stream_data_local)
        stream.max_stream_data_local_sent = stream.max_stream_data_local

    # Streams

    def unacknowledged(self, stream_id: int) -> int:
        """Bytes written to the stream and not yet acknowledged, sent or not."""
        stream = self._streams.get(stream_id)
        return 0 if stream is None else len(stream.sender._buffer)

    def unacknowledged_total(self) -> int:
        return sum(len(stream.sender._buffer) for stream in self._streams.values())

    def receive_finished(self, stream_id: int) -> bool:
        """Whether everything up to the end, or a reset, has arrived."""
        stream = self._streams.get(stream_id)
        return stream is None or stream.receiver.is_finished

    def may_open_stream(self) -> bool:
        """Whether the peer's limit allows one more stream now."""
        next_index: int = self.get_next_available_stream_id() // 4
        return next_index < self._remote_max_streams_bidi
