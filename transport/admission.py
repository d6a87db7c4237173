"""Which strangers' first packets get an answer: decided before any state or cryptography.

Seam: Retry, which proves the source address without state, becomes a third verdict here, due from
a few half-open handshakes on; so do caps per address prefix.
"""

from __future__ import annotations

from enum import StrEnum

from aioquic.buffer import Buffer, BufferReadError  # type: ignore[attr-defined]
from aioquic.quic.configuration import SMALLEST_MAX_DATAGRAM_SIZE
from aioquic.quic.packet import QuicPacketType, encode_quic_version_negotiation, pull_quic_header

from .configuration import CONNECTION_ID_BYTES, QUIC_VERSIONS
from .limits import TransportLimits


class Verdict(StrEnum):
    """What to do with a datagram of no known connection; all but two are reasons to drop it."""

    ACCEPT = "accept"
    OTHER_VERSION = "other-version"  # answer with the versions we speak
    GARBAGE = "garbage"
    UNKNOWN_CONNECTION = "unknown-connection"
    NOT_LISTENING = "not-listening"
    HALF_OPEN_FULL = "half-open-full"
    CONNECTIONS_FULL = "connections-full"


class Admission:
    """Rules on first packets."""

    def __init__(self, limits: TransportLimits, *, listening: bool) -> None:
        self._limits = limits
        self._listening = listening

    def judge_untrusted(self, data: bytes, *, half_open: int, accepted: int) -> Verdict:
        """Judge a datagram whose destination is no connection of ours. Never raises."""
        if not data[0] & 0x80:
            return Verdict.UNKNOWN_CONNECTION
        # RFC 9000, 14.1: a first packet fills its datagram, or the answer amplifies.
        if len(data) < SMALLEST_MAX_DATAGRAM_SIZE:
            return Verdict.GARBAGE
        if not self._listening:
            return Verdict.NOT_LISTENING
        try:
            header = pull_quic_header(Buffer(data=data), host_cid_length=CONNECTION_ID_BYTES)
        except (ValueError, BufferReadError):
            return Verdict.GARBAGE
        if header.packet_type is QuicPacketType.VERSION_NEGOTIATION:
            return Verdict.GARBAGE  # answering it could loop between two servers
        if header.version not in QUIC_VERSIONS:
            return Verdict.OTHER_VERSION
        # RFC 9000, 7.2: the destination id that a client makes up has at least 8 bytes.
        if header.packet_type is not QuicPacketType.INITIAL or len(header.destination_cid) < 8:
            return Verdict.UNKNOWN_CONNECTION
        if half_open >= self._limits.max_half_open:
            return Verdict.HALF_OPEN_FULL
        if accepted >= self._limits.max_connections:
            return Verdict.CONNECTIONS_FULL
        return Verdict.ACCEPT


def destination_id_untrusted(data: bytes) -> bytes | None:
    """The destination connection id of a datagram, or None when there cannot be one."""
    if not data:
        return None
    if data[0] & 0x80:
        if len(data) < 7 or data[5] > 20 or len(data) < 6 + data[5]:
            return None
        return data[6 : 6 + data[5]]
    if len(data) < 1 + CONNECTION_ID_BYTES or not data[0] & 0x40:
        return None
    return data[1 : 1 + CONNECTION_ID_BYTES]


def version_negotiation_for(data: bytes) -> bytes:
    """The answer to a first packet of a version that we do not speak; smaller than the packet."""
    header = pull_quic_header(Buffer(data=data), host_cid_length=CONNECTION_ID_BYTES)
    return encode_quic_version_negotiation(
        source_cid=header.destination_cid,
        destination_cid=header.source_cid,
        supported_versions=list(QUIC_VERSIONS),
    )
