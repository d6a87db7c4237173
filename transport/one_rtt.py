"""Everyday traffic goes by a short way: 1-RTT packets of ACK and STREAM frames on a settled path.

Of a small request's work in aioquic, half is finding out that nothing rare is the case: four packet
number spaces, coalesced packets, a packet begun and discarded to see that there is no more to say.
Here the rare is asked for once per call, and whenever it is the case aioquic does all by itself. A
test holds the two together over traffic of every kind.
"""

from __future__ import annotations

from typing import Any

from aioquic import tls
from aioquic._crypto import CryptoError
from aioquic.quic.connection import (
    Limit,
    NetworkAddress,
    QuicConnectionError,
    QuicConnectionState,
    QuicReceiveContext,
    stream_is_client_initiated,
)
from aioquic.quic.crypto import CryptoPair
from aioquic.quic.packet import get_spin_bit
from aioquic.quic.packet_builder import QuicPacketBuilderStop
from aioquic.quic.recovery import MAX_ACK_RANGES, QuicPacketSpace
from aioquic.quic.stream import QuicStream

from .flow_control import FlowControlledConnection
from .limits import TransportLimits
from .one_rtt_packet import OneRttPacketBuilder, builder_for

_SHORT_HEADER = 0x40  # of the first byte's upper two bits: the fixed bit, and no long header
_RESERVED_BITS = 0x18


class OneRttConnection(FlowControlledConnection):
    """A connection whose 1-RTT packets are received and sent with little ado."""

    def __init__(self, limits: TransportLimits, **aioquic: Any) -> None:
        super().__init__(limits, **aioquic)
        self._one_rtt: tuple[CryptoPair, QuicPacketSpace] | None = None

    @property
    def paced(self) -> bool:
        """Whether there is something that may not go out yet."""
        return self._pacing_at is not None

    def _confirm_handshake(self) -> None:
        super()._confirm_handshake()
        # Looking them up by epoch costs more than one thinks: an Enum's hash is computed in Python.
        epoch = tls.Epoch.ONE_RTT
        self._one_rtt = self._cryptos[epoch], self._spaces[epoch]
        self._handshake_data = self._crypto_streams[epoch].sender

    # Receiving

    def receive_datagram(self, data: bytes, addr: NetworkAddress, now: float) -> None:
        if not self._receive_one_rtt(data, addr, now):
            super().receive_datagram(data, addr, now)

    def _receive_one_rtt(self, data: bytes, addr: NetworkAddress, now: float) -> bool:
        """Whether it was everyday's, and is done; as aioquic's `receive_datagram` does it."""
        if self._one_rtt is None or data[0] & 0xC0 != _SHORT_HEADER or not self._settled:
            return False
        path = self._network_paths[0]
        header_size = 1 + self._configuration.connection_id_length
        cid = data[1:header_size]
        if path.addr != addr or not self._is_current(cid):
            return False
        crypto, space = self._one_rtt
        try:
            header, payload, number = crypto.decrypt_packet(
                data, header_size, space.expected_packet_number
            )
        except CryptoError:
            return True  # made up, or broken on the way
        if number in space.received_packets:
            return True
        if header[0] & _RESERVED_BITS:
            return False
        if number > space.expected_packet_number:
            space.expected_packet_number = number + 1
        if number > self._spin_highest_pn:
            self._spin_bit = get_spin_bit(header[0]) != self._is_client
            self._spin_highest_pn = number
        context = QuicReceiveContext(
            epoch=tls.Epoch.ONE_RTT,
            host_cid=cid,
            network_path=path,
            quic_logger_frames=None,
            time=now,
            version=None,
        )
        try:
            ack_eliciting, _ = self._payload_received(context, payload)
        except QuicConnectionError as error:
            self._logger.warning(error)
            self.close(error.error_code, error.frame_type, error.reason_phrase)
        if self._state is not QuicConnectionState.CONNECTED or self._close_pending:
            return True
        self._close_at = now + self._idle_timeout()
        self._ack_eliciting_sent_since_receipt = False
        if number > space.largest_received_packet:
            space.largest_received_packet = number
            space.largest_received_time = now
        space.ack_queue.add(number)
        space.received_packets.add(number)
        if len(space.ack_queue) > MAX_ACK_RANGES:
            space.ack_queue.shift()
        if ack_eliciting and space.ack_at is None:
            space.ack_at = now + self._ack_delay
        return True

    def _is_current(self, cid: bytes) -> bool:
        """Whether the peer may use this id of ours without its meaning anything."""
        if not self._is_client:
            return cid == self.host_cid  # another one: the client moves (RFC 9000, 9)
        return any(cid == each.cid for each in self._host_cids)

    # Sending

    def datagrams_to_send(self, now: float) -> list[tuple[bytes, NetworkAddress]]:
        if self._one_rtt is not None:
            crypto, space = self._one_rtt
            streams = self._everyday_streams()
            if streams and space.ack_at is not None:
                space.ack_at = now  # RFC 9000, 13.2.1: with other frames, no packet of its own
            if streams is not None and not self._has_rare():
                return self._send_one_rtt(crypto, space, streams, now)
        datagrams: list[tuple[bytes, NetworkAddress]] = super().datagrams_to_send(now)
        return datagrams

    @property
    def _settled(self) -> bool:
        """Whether there is one path, proven, and no end in sight."""
        return (
            self._state is QuicConnectionState.CONNECTED
            and not self._close_pending
            and len(self._network_paths) == 1
            and self._network_paths[0].is_validated
        )

    def _everyday_streams(self) -> list[QuicStream] | None:
        """Streams with data to send; None when one has something else to say."""
        found, finished = [], []
        for stream in self._streams_queue:
            sender, receiver = stream.sender, stream.receiver
            if sender.reset_pending or receiver.stop_pending:
                return None
            if not receiver.is_finished:
                consumed = self._consumed.get(stream.stream_id or 0, 0)
                if (
                    stream.max_stream_data_local_sent != stream.max_stream_data_local
                    or self._due_limit(consumed, stream) is not None
                ):
                    return None
            elif sender.is_finished:
                finished.append(stream)
            if _has_data(stream):
                found.append(stream)
        for stream in finished:
            self._discard(stream)
        return found

    def _discard(self, stream: QuicStream) -> None:
        """As aioquic does whenever it builds a packet; the peer may open another for each."""
        stream_id = stream.stream_id or 0
        del self._streams[stream_id]
        self._streams_queue.remove(stream)
        if stream_is_client_initiated(stream_id) != self._is_client:
            self._stream_limit(stream_id).value += 1

    def _has_rare(self) -> bool:
        """Whether aioquic would send anything but ACK and STREAM frames, or on another path."""
        if (
            not self._settled
            or self._network_paths[0].remote_challenges
            or self._probe_pending
            or self._ping_pending
            or self._handshake_done_pending
            or self._retire_connection_ids
            or self._streams_blocked_pending
            or self._datagrams_pending
            or not self._handshake_data.buffer_is_empty
            or self._credit.value != self._credit.sent
            or _more_streams_due(self._local_max_streams_bidi)
        ):
            return True
        return [each for each in self._host_cids if not each.was_sent] != []

    def _send_one_rtt(
        self,
        crypto: CryptoPair,
        space: QuicPacketSpace,
        streams: list[QuicStream],
        now: float,
    ) -> list[tuple[bytes, NetworkAddress]]:
        """As aioquic's `datagrams_to_send` does it when there is nothing rare."""
        path, loss, pacer = self._network_paths[0], self._loss, self._loss._pacer
        builder = builder_for(self._max_datagram_size)
        datagrams: list[tuple[bytes, NetworkAddress]] = []
        self._pacing_at = None
        while True:
            ack_due = space.ack_at is not None and space.ack_at <= now
            if not streams and not ack_due:
                break
            if space.ack_at is None or space.ack_at >= now:  # an ACK that is late is not paced
                self._pacing_at = pacer.next_send_time(now)
                if self._pacing_at is not None:
                    break
            flight_bytes = loss.congestion_window - loss.bytes_in_flight
            builder.start(self._peer_cid.cid, crypto, self._packet_number, flight_bytes)
            try:
                if ack_due:
                    self._write_ack_frame(builder, space, now)
                streams = self._write_streams(builder, space, streams)
                cut_short = False
            except QuicPacketBuilderStop:  # no room in flight, not even for the ACK's PING
                streams = []
                cut_short = True
            if builder.packet_is_empty:
                break
            datagram, packet = builder.protect(self._spin_bit)
            self._packet_number += 1
            packet.sent_time = now
            loss.on_packet_sent(packet=packet, space=space)
            if not cut_short:  # then it is an ACK alone, which is not in flight
                pacer.update_after_send(now)
            path.bytes_sent += len(datagram)
            datagrams.append((datagram, path.addr))
            if packet.is_ack_eliciting and not self._ack_eliciting_sent_since_receipt:
                self._close_at = now + self._idle_timeout()  # RFC 9000, 10.1
                self._ack_eliciting_sent_since_receipt = True
        return datagrams

    def _write_streams(
        self, builder: OneRttPacketBuilder, space: QuicPacketSpace, streams: list[QuicStream]
    ) -> list[QuicStream]:
        """Returns those that have more; who had a turn waits until the others had theirs."""
        served = []
        for stream in streams:
            credit = self._remote_max_data - self._remote_max_data_used
            used = self._write_stream_frame(
                builder,
                space,
                stream,
                min(stream.sender.highest_offset + credit, stream.max_stream_data_remote),
            )
            if used:
                self._remote_max_data_used += used
                served.append(stream)
        if served and len(self._streams_queue) > 1:
            others = [each for each in self._streams_queue if each not in served]
            self._streams_queue = others + served
        waiting = [each for each in streams if each not in served]
        return [each for each in waiting + served if _has_data(each)]


def _has_data(stream: QuicStream) -> bool:
    sender = stream.sender
    if sender.buffer_is_empty or stream.is_blocked:
        return False
    return bool(len(sender._pending)) or sender._pending_eof


def _more_streams_due(limit: Limit) -> bool:
    # As aioquic's `_write_connection_limits` batches them.
    return bool(limit.value != limit.sent and limit.sent - limit.used < limit.value - limit.sent)
