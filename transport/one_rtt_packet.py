"""Packets with a short header (RFC 9000, 17.3), each a datagram of its own."""

from __future__ import annotations

import functools
import threading
from collections.abc import Sequence
from typing import Any, Final

from aioquic import tls
from aioquic.buffer import Buffer  # type: ignore[attr-defined]
from aioquic.quic.crypto import CryptoPair
from aioquic.quic.packet import PACKET_FIXED_BIT, QuicFrameType, QuicPacketType
from aioquic.quic.packet_builder import (
    PACKET_NUMBER_SEND_SIZE,
    QuicDeliveryHandler,
    QuicPacketBuilder,
    QuicPacketBuilderStop,
    QuicSentPacket,
)

_KEPT: Final = 8  # sizes of datagrams; few paths differ


class OneRttPacketBuilder(QuicPacketBuilder):
    """A builder that is kept: `start` a packet, have aioquic write frames to it, `protect` it.

    Takes the frames of everyday traffic: ACK, PING and STREAM. `datagram_size` in bytes.
    """

    def __init__(self, datagram_size: int) -> None:
        super().__init__(
            host_cid=b"", peer_cid=b"", version=0, is_client=True, max_datagram_size=datagram_size
        )
        self.datagram_size = datagram_size

    def start(self, peer_cid: bytes, crypto: CryptoPair, number: int, flight_bytes: int) -> None:
        """A new packet to `peer_cid`, of which at most `flight_bytes` may count as in flight."""
        self._peer_cid = peer_cid
        self._crypto = crypto
        self._packet_number = number
        self._record = QuicSentPacket(
            epoch=tls.Epoch.ONE_RTT,
            in_flight=False,
            is_ack_eliciting=False,
            is_crypto_packet=False,
            packet_number=number,
            packet_type=QuicPacketType.ONE_RTT,
        )
        overhead = 1 + len(peer_cid) + PACKET_NUMBER_SEND_SIZE + crypto.aead_tag_size
        self._room = self.datagram_size - overhead
        self._flight_room = min(self._room, flight_bytes - overhead)
        self._buffer.seek(0)  # it holds the frames only: the header is made at the end

    @property
    def packet_is_empty(self) -> bool:
        return self._buffer.tell() == 0

    @property
    def remaining_buffer_space(self) -> int:
        return self._room - self._buffer.tell()

    @property
    def remaining_flight_space(self) -> int:
        return self._flight_room - self._buffer.tell()

    def start_frame(
        self,
        frame_type: int,
        capacity: int = 1,
        handler: QuicDeliveryHandler | None = None,
        handler_args: Sequence[Any] = (),
    ) -> Buffer:
        buf, record = self._buffer, self._record
        bare = frame_type == QuicFrameType.ACK  # is not in flight, and asks for no ACK
        if (self._room if bare else self._flight_room) - buf.tell() < capacity:
            raise QuicPacketBuilderStop
        buf.push_uint_var(frame_type)
        if not bare:
            record.is_ack_eliciting = record.in_flight = True
        if handler is not None:
            record.delivery_handlers.append((handler, handler_args))
        return buf

    def protect(self, spin_bit: bool) -> tuple[bytes, QuicSentPacket]:
        """The datagram, and what to remember of its packet."""
        crypto, number = self._crypto, self._packet_number
        first = PACKET_FIXED_BIT | spin_bit << 5 | crypto.key_phase << 2
        header = (
            bytes((first | PACKET_NUMBER_SEND_SIZE - 1,))
            + self._peer_cid
            + (number & 0xFFFF).to_bytes(PACKET_NUMBER_SEND_SIZE, "big")
        )
        datagram = crypto.encrypt_packet(header, self._buffer.data, number)
        self._record.sent_bytes = len(datagram)
        return datagram, self._record


class _Kept(threading.local):
    def __init__(self) -> None:
        self.of = functools.lru_cache(_KEPT)(OneRttPacketBuilder)


_kept = _Kept()


def builder_for(datagram_size: int) -> OneRttPacketBuilder:
    """This thread's builder, to be done with before anything else is: 3 KiB, and up to 19 with
    large datagrams, that no connection needs for itself."""
    return _kept.of(datagram_size)
