"""What a proven peer may make us hold or do, beyond what aioquic itself bounds."""

from __future__ import annotations

import secrets
from typing import Any

from aioquic.buffer import Buffer  # type: ignore[attr-defined]
from aioquic.quic.connection import NetworkAddress, QuicConnectionError, QuicReceiveContext
from aioquic.quic.events import QuicEvent
from aioquic.quic.packet import QuicErrorCode, QuicFrameType
from aioquic.quic.rangeset import RangeSet
from aioquic.quic.stream import QuicStream

from .compact import Queue
from .congestion import WatchedCongestionControl
from .limits import TransportLimits
from .one_rtt import OneRttConnection

_SKIP_ABOUT_EVERY = 256  # packets
_SKIPPED_KEPT = 4


class BoundedConnection(OneRttConnection):
    """A connection that closes on a peer that exceeds what no honest one needs.

    `packets_taken` counts packets that were decrypted and new: a datagram that adds none was made
    up, broken or repeated on the way.
    """

    def __init__(self, limits: TransportLimits, **aioquic: Any) -> None:
        super().__init__(limits, **aioquic)
        self.packets_taken = 0
        self._max_ranges = limits.reassembly_ranges
        self._max_connection_ids = limits.peer_connection_ids
        self._max_unacked_records = self._records_purge_at = limits.sent_records
        self._skipped: tuple[int, ...] = ()
        self._skip_at = 0
        self._local_active_connection_id_limit = limits.connection_ids
        self._events: Any = Queue[QuicEvent]()
        self._datagrams_pending: Any = Queue[bytes]()  # no peer takes any
        self._congestion = WatchedCongestionControl(base=limits.datagram)
        self._loss._cc = self._congestion
        self._take_ack = self._loss.on_ack_received
        self._loss.on_ack_received = self._check_ack  # type: ignore[method-assign]

    def _handle_padding_frame(
        self, context: QuicReceiveContext, frame_type: int, buf: Buffer
    ) -> None:
        """The library looks at each byte of it by itself: 1 ms for a datagram of 16 KiB."""
        start = buf.tell()
        rest = buf.data_slice(start, buf.capacity)
        buf.seek(start + len(rest) - len(rest.lstrip(b"\0")))

    def unanswered_s(self, now: float) -> float:
        """Seconds for which something has been in flight and the peer acknowledged nothing."""
        since = self._congestion.waiting_since
        return 0.0 if since is None else now - since

    def datagrams_to_send(self, now: float) -> list[tuple[bytes, NetworkAddress]]:
        # RFC 9000, 21.4: a peer that acknowledges what it has not received makes us send faster
        # than the path carries; a number that was never sent tells.
        if self._packet_number >= self._skip_at and self._handshake_confirmed:
            if self._skip_at:
                self._skipped = (*self._skipped, self._packet_number)[-_SKIPPED_KEPT:]
                self._packet_number += 1
            self._skip_at = self._packet_number + 1 + secrets.randbelow(2 * _SKIP_ABOUT_EVERY)
        datagrams = super().datagrams_to_send(now)
        if datagrams:
            self._forget_bare_acks()
        return datagrams

    def _payload_received(
        self, context: QuicReceiveContext, plain: bytes, crypto_frame_required: bool = False
    ) -> tuple[bool, bool]:
        self.packets_taken += 1
        taken: tuple[bool, bool] = super()._payload_received(context, plain, crypto_frame_required)
        return taken

    def _forget_bare_acks(self) -> None:
        # Nobody acknowledges a packet of nothing but ACKs (RFC 9000, 13.2.1), and aioquic keeps
        # a record of each until something later is acknowledged: endless PINGs fill memory.
        if self._one_rtt is None:
            return
        _, space = self._one_rtt
        if len(space.sent_packets) < self._records_purge_at:
            return
        for number, packet in list(space.sent_packets.items()):
            if not packet.in_flight:
                del space.sent_packets[number]
        self._records_purge_at = max(self._max_unacked_records, 2 * len(space.sent_packets))

    def _check_ack(self, *, ack_rangeset: RangeSet, **rest: Any) -> None:
        # RFC 9000, 13.1: acknowledging what was not sent is a violation. aioquic would take all
        # that is in flight for lost.
        bounds = ack_rangeset.bounds()
        skipped = [number for number in self._skipped if number >= bounds.start]
        if bounds.stop > self._packet_number or any(each in ack_rangeset for each in skipped):
            raise QuicConnectionError(
                error_code=QuicErrorCode.PROTOCOL_VIOLATION,
                frame_type=QuicFrameType.ACK,
                reason_phrase="acknowledges what was not sent",
            )
        self._take_ack(ack_rangeset=ack_rangeset, **rest)

    def _handle_stream_frame(
        self, context: QuicReceiveContext, frame_type: int, buf: Buffer
    ) -> None:
        start = buf.tell()
        stream_id = buf.pull_uint_var()
        buf.seek(start)
        super()._handle_stream_frame(context, frame_type, buf)
        self._check_ranges(self._streams.get(stream_id), frame_type)

    def _handle_crypto_frame(
        self, context: QuicReceiveContext, frame_type: int, buf: Buffer
    ) -> None:
        super()._handle_crypto_frame(context, frame_type, buf)
        self._check_ranges(self._crypto_streams.get(context.epoch), frame_type)

    def _check_ranges(self, stream: QuicStream | None, frame_type: int) -> None:
        # One-byte fragments make aioquic's list of ranges quadratic: 13,824 of them cost 6 s.
        if stream is not None and len(stream.receiver._ranges) > self._max_ranges:
            raise QuicConnectionError(
                error_code=QuicErrorCode.PROTOCOL_VIOLATION,
                frame_type=frame_type,
                reason_phrase="too many fragments",
            )

    def _handle_new_connection_id_frame(
        self, context: QuicReceiveContext, frame_type: int, buf: Buffer
    ) -> None:
        super()._handle_new_connection_id_frame(context, frame_type, buf)
        # aioquic remembers each number until the peer retires it.
        if len(self._peer_cid_sequence_numbers) > self._max_connection_ids:
            raise QuicConnectionError(
                error_code=QuicErrorCode.CONNECTION_ID_LIMIT_ERROR,
                frame_type=frame_type,
                reason_phrase="too many connection ids",
            )
