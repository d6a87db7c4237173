"""A proven peer that says what no honest one says: raw frames in well-formed packets."""

from __future__ import annotations

from aioquic import tls
from aioquic.buffer import Buffer  # type: ignore[attr-defined]
from aioquic.quic.packet import QuicPacketType
from aioquic.quic.packet_builder import QuicPacketBuilder

from transport import Connection

ACK, RESET_STREAM, STOP_SENDING, CRYPTO, STREAM = 0x02, 0x04, 0x05, 0x06, 0x0E
MAX_STREAMS, NEW_CONNECTION_ID, PING, PATH_CHALLENGE = 0x12, 0x18, 0x01, 0x1A


def frame(kind: int, *fields: int | bytes) -> bytes:
    """A frame: integers as QUIC varints, bytes as they are."""
    buf = Buffer(capacity=16_000)
    buf.push_uint_var(kind)
    for field in fields:
        if isinstance(field, bytes):
            buf.push_bytes(field)
        else:
            buf.push_uint_var(field)
    return bytes(buf.data)


def inject(attacker: Connection, *frames: bytes) -> None:
    """Send one packet of the frames as `attacker`, behind the back of its own bookkeeping."""
    quic = attacker.quic
    builder = QuicPacketBuilder(
        host_cid=quic.host_cid,
        is_client=quic._is_client,
        max_datagram_size=16_383,
        packet_number=quic._packet_number,
        peer_cid=quic._peer_cid.cid,
        version=quic._version or 0,
    )
    payload = b"".join(frames)
    builder.start_packet(QuicPacketType.ONE_RTT, quic._cryptos[tls.Epoch.ONE_RTT])
    builder.start_frame(payload[0]).push_bytes(payload[1:])
    datagrams, _ = builder.flush()
    quic._packet_number = builder.packet_number
    for datagram in datagrams:
        attacker._wire.send(datagram, quic._network_paths[0].addr)
