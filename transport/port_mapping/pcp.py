"""The Port Control Protocol (RFC 6887), as far as one mapping of one UDP port needs it; pure."""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from schemas.addresses import Address
from schemas.errors import Malformed

VERSION: Final = 2
NONCE_BYTES: Final = 12
MAX_BYTES: Final = 1_100  # RFC 6887, section 7: a longer message is dropped

_ANNOUNCE, _MAP = 0, 1
_RESPONSE: Final = 0x80
_UDP: Final = 17
_HEADER: Final = struct.Struct("!BBxBL16x")  # of a response: version, opcode, result, lifetime
_REQUEST: Final = struct.Struct("!BBxxL16s")  # version, opcode, lifetime, client
_MAPPING: Final = struct.Struct("!12sB3xHH16s")  # nonce, protocol, internal, external, address


class Result(IntEnum):
    """RFC 6887, section 7.4; a number that is not here counts as NETWORK_FAILURE."""

    SUCCESS = 0
    UNSUPP_VERSION = 1
    NOT_AUTHORIZED = 2
    MALFORMED_REQUEST = 3
    UNSUPP_OPCODE = 4
    UNSUPP_OPTION = 5
    MALFORMED_OPTION = 6
    NETWORK_FAILURE = 7
    NO_RESOURCES = 8
    UNSUPP_PROTOCOL = 9
    USER_EX_QUOTA = 10
    CANNOT_PROVIDE_EXTERNAL = 11
    ADDRESS_MISMATCH = 12
    EXCESSIVE_REMOTE_PEERS = 13


@dataclass(frozen=True, slots=True)
class MapRequest:
    """Asks for (lifetime in seconds; 0: lets go of) a mapping of `port` at `client`.

    The nonce stays the same for as long as the mapping is wanted: only who knows it may change
    the mapping. `wish` is the external address suggested: the one had before, else port alone.
    """

    client: str
    port: int
    nonce: bytes
    lifetime_s: int
    wish: Address

    def encode(self) -> bytes:
        """60 bytes."""
        return _REQUEST.pack(VERSION, _MAP, self.lifetime_s, _packed(self.client)) + _MAPPING.pack(
            self.nonce, _UDP, self.port, self.wish.port, _packed(self.wish.host)
        )


@dataclass(frozen=True, slots=True)
class MapResponse:
    """What a gateway said. `external` is None when it refuses; then `lifetime_s` says for how
    long it will go on refusing."""

    result: Result
    lifetime_s: int
    external: Address | None


def map_response_untrusted(data: bytes, request: MapRequest) -> MapResponse:
    """The answer to `request`. Raises Malformed `not-pcp`, `not-our-mapping`."""
    result, lifetime_s = _header(data, _MAP)
    if result == Result.UNSUPP_VERSION:
        return MapResponse(result, lifetime_s, None)
    if len(data) < _HEADER.size + _MAPPING.size:
        raise Malformed("not-pcp", f"a PCP answer of {len(data)} bytes")
    nonce, protocol, internal, port, packed = _MAPPING.unpack_from(data, _HEADER.size)
    if (nonce, protocol, internal) != (request.nonce, _UDP, request.port):
        raise Malformed("not-our-mapping", "a PCP answer about a mapping that is not ours")
    if result != Result.SUCCESS:
        return MapResponse(result, lifetime_s, None)
    if request.lifetime_s and not port:
        raise Malformed("not-pcp", "a PCP mapping to port 0")
    return MapResponse(result, lifetime_s, Address(_host(packed), port))


def announcement_untrusted(data: bytes) -> None:
    """An unasked-for ANNOUNCE of a gateway (section 14.1.1). Raises Malformed when it is none."""
    _header(data, _ANNOUNCE)


def _header(data: bytes, opcode: int) -> tuple[Result, int]:
    """Result and lifetime; the version may be older, which UNSUPP_VERSION says."""
    if len(data) >= 4 and data[0] == 0 and data[1] & _RESPONSE and data[2:4] == b"\0\1":
        # RFC 6887, appendix A: so a gateway that knows only NAT-PMP declines version 2.
        return Result.UNSUPP_VERSION, 0
    if not _HEADER.size <= len(data) <= MAX_BYTES or len(data) % 4:
        raise Malformed("not-pcp", f"a PCP answer of {len(data)} bytes")
    version, kind, result, lifetime_s = _HEADER.unpack_from(data)
    if kind != _RESPONSE | opcode:
        raise Malformed("not-pcp", f"a PCP answer of kind {kind}")
    if result == Result.UNSUPP_VERSION:
        return Result.UNSUPP_VERSION, lifetime_s
    if version != VERSION:
        raise Malformed("not-pcp", f"a PCP answer of version {version}")
    return _result(result), lifetime_s


def _result(code: int) -> Result:
    try:
        return Result(code)
    except ValueError:
        return Result.NETWORK_FAILURE


def _packed(host: str) -> bytes:
    """16 bytes; IPv4 as an IPv4-mapped IPv6 address (section 5)."""
    ip = ipaddress.ip_address(host)
    return ip.packed if ip.version == 6 else b"\0" * 10 + b"\xff\xff" + ip.packed


def _host(packed: bytes) -> str:
    ip = ipaddress.IPv6Address(packed)
    return str(ip if ip.ipv4_mapped is None else ip.ipv4_mapped)
