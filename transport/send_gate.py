"""Nothing is built when there is nothing to send, and what is sent takes the due ACK along.

aioquic starts and discards a packet to find out that it has no more to say, after every datagram
received and after every packet sent: a third of the work of a small request. `_nothing_to_send`
looks at all that its `_write_application` writes; a test holds the two together over traffic of
every kind.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aioquic import tls
from aioquic.quic.connection import Limit, NetworkAddress, stream_is_client_initiated
from aioquic.quic.recovery import QuicPacketPacer
from aioquic.quic.stream import QuicStream

from .flow_control import FlowControlledConnection
from .limits import TransportLimits


class GatedConnection(FlowControlledConnection):
    """A connection of which one asks `quiet` before `datagrams_to_send`."""

    def __init__(self, limits: TransportLimits, **aioquic: Any) -> None:
        super().__init__(limits, **aioquic)
        self._pacer = _GatedPacer(limits.datagram, self._nothing_to_send)
        self._loss._pacer = self._pacer

    @property
    def paced(self) -> bool:
        """Whether there is something that may not go out yet."""
        return self._pacing_at is not None

    def quiet(self, now: float) -> bool:
        """Whether there is nothing to send, for sure."""
        self._discard_finished()
        if not self._nothing_to_send(now):
            return False
        self._pacing_at = None
        return True

    def datagrams_to_send(self, now: float) -> list[tuple[bytes, NetworkAddress]]:
        space = self._spaces.get(tls.Epoch.ONE_RTT)
        if (
            space is not None
            and space.ack_at is not None
            and any(map(_has_data, self._streams_queue))
        ):
            space.ack_at = now  # RFC 9000, 13.2.1: with other frames, and no packet of its own
        self._pacer.reset()
        datagrams: list[tuple[bytes, NetworkAddress]] = super().datagrams_to_send(now)
        if self._pacer.stopped:
            self._pacing_at = None
        return datagrams

    def _discard_finished(self) -> None:
        """As aioquic does whenever it builds a packet; the peer may open another for each."""
        for stream in [each for each in self._streams_queue if each.is_finished]:
            stream_id = stream.stream_id or 0
            del self._streams[stream_id]
            self._streams_queue.remove(stream)
            if stream_is_client_initiated(stream_id) != self._is_client:
                self._stream_limit(stream_id).value += 1

    def _nothing_to_send(self, now: float) -> bool:
        if not self._handshake_confirmed or self._close_pending or len(self._network_paths) > 1:
            return False
        path = self._network_paths[0]
        space = self._spaces[tls.Epoch.ONE_RTT]
        if (
            not path.is_validated
            or path.remote_challenges
            or (space.ack_at is not None and space.ack_at <= now)
            or self._probe_pending
            or self._ping_pending
            or self._handshake_done_pending
            or self._retire_connection_ids
            or self._streams_blocked_pending
            or self._datagrams_pending
            or not self._crypto_streams[tls.Epoch.ONE_RTT].sender.buffer_is_empty
            or self._credit.value != self._credit.sent
            or _more_streams_due(self._local_max_streams_bidi)
            or _more_streams_due(self._local_max_streams_uni)
        ):
            return False
        for stream in self._streams.values():
            if self._stream_has_something(stream):
                return False
        return all(each.was_sent for each in self._host_cids)

    def _stream_has_something(self, stream: QuicStream) -> bool:
        sender, receiver = stream.sender, stream.receiver
        if _has_data(stream) or sender.reset_pending or receiver.stop_pending:
            return True
        if receiver.is_finished:
            return False
        if stream.max_stream_data_local_sent != stream.max_stream_data_local:
            return True
        consumed = self._consumed.get(stream.stream_id or 0, 0)
        return self._due_limit(consumed, stream) is not None


class _GatedPacer(QuicPacketPacer):
    """aioquic asks its pacer before each packet; ours also knows when there is none to pace."""

    def __init__(self, datagram: int, nothing_to_send: Callable[[float], bool]) -> None:
        super().__init__(max_datagram_size=datagram)
        self._nothing_to_send = nothing_to_send
        self.reset()

    def reset(self) -> None:
        """A datagram at least is to be sent: no need to look before the first packet."""
        self.stopped = False
        self._first = True

    def next_send_time(self, now: float) -> float | None:  # type: ignore[override]
        if self._first:
            self._first = False
        elif self._nothing_to_send(now):
            self.stopped = True
            return now
        return super().next_send_time(now)


def _has_data(stream: QuicStream) -> bool:
    sender = stream.sender
    if sender.buffer_is_empty or stream.is_blocked:
        return False
    return bool(len(sender._pending)) or sender._pending_eof


def _more_streams_due(limit: Limit) -> bool:
    # As aioquic's `_write_connection_limits` batches them.
    return bool(limit.value != limit.sent and limit.sent - limit.used < limit.value - limit.sent)
