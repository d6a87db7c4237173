"""Which strangers' first packets get an answer: decided before any state or cryptography.

While it is quiet, a first packet is served at once. From `retry_from_half_open` handshakes that are
not finished, or `first_packets_per_s`, whoever comes must first prove the address (Retry). What
is proven counts against its address prefix, so nobody's flood under made-up addresses uses up
another's share.
"""

from __future__ import annotations

import ipaddress
import socket
from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Final

from aioquic.buffer import Buffer  # type: ignore[attr-defined]
from aioquic.quic.configuration import SMALLEST_MAX_DATAGRAM_SIZE
from aioquic.quic.packet import (
    QuicHeader,
    QuicPacketType,
    encode_quic_version_negotiation,
    pull_quic_header,
)

from schemas.errors import Malformed

from .address import SockAddr
from .configuration import CONNECTION_ID_BYTES, QUIC_VERSIONS
from .limits import TransportLimits
from .rate import TokenBucket
from .retry import RetryTokens

_MIN_CLIENT_CHOSEN_ID = 8  # RFC 9000, 7.2
_MAPPED_IPV4 = bytes(10) + b"\xff\xff"


class Verdict(StrEnum):
    """What to do with a long-header datagram of no connection; each but ACCEPT is counted."""

    ACCEPT = "accept"
    RETRY = "retry"  # answered: prove your address
    OTHER_VERSION = "other-version"  # answered: the versions that we speak
    GARBAGE = "garbage"
    UNKNOWN_CONNECTION = "unknown-connection"
    NOT_LISTENING = "not-listening"
    BAD_TOKEN = "bad-retry-token"  # noqa: S105
    HALF_OPEN_FULL = "half-open-full"
    PREFIX_FULL = "prefix-full"
    CONNECTIONS_FULL = "connections-full"


# Of whoever asked for a connection as one should.
REFUSALS: Final = (
    Verdict.BAD_TOKEN,
    Verdict.HALF_OPEN_FULL,
    Verdict.PREFIX_FULL,
    Verdict.CONNECTIONS_FULL,
)


@dataclass(frozen=True, slots=True)
class Decision:
    """A verdict and what goes with it.

    `reply` goes back to the sender, when there is one. With ACCEPT: `original_id` is the first
    destination id that the client chose, `retry_source_id` ours from the Retry that it followed;
    None means that its address is not proven.
    """

    verdict: Verdict
    reply: bytes = b""
    original_id: bytes = b""
    retry_source_id: bytes | None = None


class Admission:
    """Rules on first packets, and the handshakes that are not finished."""

    def __init__(self, limits: TransportLimits, *, listening: bool) -> None:
        self._limits = limits
        self._listening = listening
        self._tokens = RetryTokens()
        self._first_packets = TokenBucket(limits.first_packets_per_s, limits.first_packets_per_s)
        self._half_open: dict[Hashable, bytes | None] = {}  # the proven prefix, if it is
        self._by_prefix: Counter[bytes] = Counter()

    @property
    def half_open(self) -> int:
        """Accepted handshakes that are not finished."""
        return len(self._half_open)

    def judge_untrusted(
        self, data: bytes, remote: SockAddr, *, now: float, accepted: int
    ) -> Decision:
        """Judge a long-header datagram whose destination is no connection of ours. Never raises."""
        # RFC 9000, 14.1: a first packet fills its datagram, or the answer amplifies.
        if len(data) < SMALLEST_MAX_DATAGRAM_SIZE:
            return Decision(Verdict.GARBAGE)
        if not self._listening:
            return Decision(Verdict.NOT_LISTENING)
        try:
            header = pull_quic_header(Buffer(data=data), host_cid_length=CONNECTION_ID_BYTES)
        except ValueError:
            return Decision(Verdict.GARBAGE)
        if header.packet_type is QuicPacketType.VERSION_NEGOTIATION:
            return Decision(Verdict.GARBAGE)  # answering it could loop between two servers
        if header.version not in QUIC_VERSIONS:
            return Decision(Verdict.OTHER_VERSION, reply=_version_negotiation(header))
        if (
            header.packet_type is not QuicPacketType.INITIAL
            or len(header.destination_cid) < _MIN_CLIENT_CHOSEN_ID
        ):
            return Decision(Verdict.UNKNOWN_CONNECTION)
        if accepted >= self._limits.max_connections:
            return Decision(Verdict.CONNECTIONS_FULL)
        if header.token:
            return self._judge_proven_untrusted(header, remote, now)
        if self.half_open >= self._limits.retry_from_half_open or not self._first_packets.take(now):
            return Decision(Verdict.RETRY, reply=self._tokens.retry_packet(header, remote, now))
        return Decision(Verdict.ACCEPT, original_id=header.destination_cid)

    def opened(self, handshake: Hashable, remote: SockAddr, decision: Decision) -> None:
        """A handshake was accepted by `decision`; `settled` follows, whatever becomes of it."""
        prefix = None if decision.retry_source_id is None else address_prefix(remote)
        self._half_open[handshake] = prefix
        if prefix is not None:
            self._by_prefix[prefix] += 1

    def settled(self, handshake: Hashable) -> None:
        """The handshake is finished or over. Others than those that were `opened` are ignored."""
        prefix = self._half_open.pop(handshake, None)
        if prefix is not None:
            self._by_prefix[prefix] -= 1
            if not self._by_prefix[prefix]:
                del self._by_prefix[prefix]

    def _judge_proven_untrusted(self, header: QuicHeader, remote: SockAddr, now: float) -> Decision:
        try:
            original_id = self._tokens.original_id_untrusted(header, remote, now)
        except Malformed:
            return Decision(Verdict.BAD_TOKEN)
        if self.half_open >= self._limits.max_half_open:
            return Decision(Verdict.HALF_OPEN_FULL)
        if self._by_prefix[address_prefix(remote)] >= self._limits.max_half_open_per_prefix:
            return Decision(Verdict.PREFIX_FULL)
        return Decision(
            Verdict.ACCEPT, original_id=original_id, retry_source_id=header.destination_cid
        )


def address_prefix(remote: SockAddr) -> bytes:
    """What one customer of a network usually has: /24 of IPv4, also seen as IPv6; /56 of IPv6."""
    host = remote[0].partition("%")[0]
    if ":" not in host:
        return socket.inet_pton(socket.AF_INET, host)[:3]
    packed = socket.inet_pton(socket.AF_INET6, host)
    return packed[12:15] if packed.startswith(_MAPPED_IPV4) else packed[:7]


@lru_cache(maxsize=65_536)  # asked at each request of the DHT, again and again of the same
def prefix_of(host: str) -> bytes | None:
    """As `address_prefix`; None for loopback, which strangers cannot come from."""
    address = ipaddress.ip_address(host.partition("%")[0])
    loopback = (getattr(address, "ipv4_mapped", None) or address).is_loopback
    return None if loopback else address_prefix((host, 0))


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


def _version_negotiation(header: QuicHeader) -> bytes:
    return encode_quic_version_negotiation(
        source_cid=header.destination_cid,
        destination_cid=header.source_cid,
        supported_versions=list(QUIC_VERSIONS),
    )
