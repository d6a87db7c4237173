"""The NAT Port Mapping Protocol (RFC 6886), as far as one UDP port needs it; pure."""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from schemas.errors import Malformed

_ADDRESS, _MAP_UDP = 0, 1
_RESPONSE: Final = 0x80
_HEADER: Final = struct.Struct("!BBH4x")  # of a response: version, opcode, result
_REQUEST: Final = struct.Struct("!BBxxHHL")  # version, opcode, internal, external, lifetime
_MAPPING: Final = struct.Struct("!HHL")  # internal port, external port, lifetime

ADDRESS_REQUEST: Final = bytes([0, _ADDRESS])


class Result(IntEnum):
    """RFC 6886, section 3.5; a number that is not here counts as NETWORK_FAILURE."""

    SUCCESS = 0
    UNSUPPORTED_VERSION = 1
    NOT_AUTHORIZED = 2
    NETWORK_FAILURE = 3
    OUT_OF_RESOURCES = 4
    UNSUPPORTED_OPCODE = 5


@dataclass(frozen=True, slots=True)
class AddressResponse:
    """The gateway's external address; empty when it has none or does not say."""

    result: Result
    host: str


@dataclass(frozen=True, slots=True)
class MapResponse:
    """The external port, and for how many seconds."""

    result: Result
    port: int
    lifetime_s: int


def map_request(port: int, wish: int, lifetime_s: int) -> bytes:
    """Asks for (lifetime 0, wish 0: lets go of) a mapping of our `port`. 12 bytes."""
    return _REQUEST.pack(0, _MAP_UDP, port, wish, lifetime_s)


def address_response_untrusted(data: bytes) -> AddressResponse:
    """Raises Malformed `not-nat-pmp`."""
    result = _header(data, _ADDRESS)
    if result != Result.SUCCESS:
        return AddressResponse(result, "")
    if len(data) != _HEADER.size + 4:
        raise Malformed("not-nat-pmp", f"a NAT-PMP address in {len(data)} bytes")
    ip = ipaddress.IPv4Address(data[_HEADER.size :])
    return AddressResponse(result, "" if ip.is_unspecified else str(ip))


def map_response_untrusted(data: bytes, port: int) -> MapResponse:
    """The answer to a request about our `port`.

    Raises Malformed `not-nat-pmp`, `not-our-mapping`.
    """
    result = _header(data, _MAP_UDP)
    if result in (Result.UNSUPPORTED_VERSION, Result.UNSUPPORTED_OPCODE):
        return MapResponse(result, 0, 0)  # section 3.5: these may be short
    if len(data) != _HEADER.size + _MAPPING.size:
        raise Malformed("not-nat-pmp", f"a NAT-PMP mapping in {len(data)} bytes")
    internal, external, lifetime_s = _MAPPING.unpack_from(data, _HEADER.size)
    if internal != port:
        raise Malformed("not-our-mapping", "a NAT-PMP answer about a port that is not ours")
    if result == Result.SUCCESS and lifetime_s and not external:
        raise Malformed("not-nat-pmp", "a NAT-PMP mapping to port 0")
    return MapResponse(result, external, lifetime_s)


def announcement_untrusted(data: bytes) -> None:
    """An unasked-for address response (section 3.2.1). Raises Malformed when it is none."""
    address_response_untrusted(data)


def _header(data: bytes, opcode: int) -> Result:
    if len(data) < _HEADER.size:
        raise Malformed("not-nat-pmp", f"a NAT-PMP answer of {len(data)} bytes")
    version, kind, code = _HEADER.unpack_from(data)
    if version != 0 or kind != _RESPONSE | opcode:
        raise Malformed("not-nat-pmp", f"a NAT-PMP answer of version {version}, kind {kind}")
    try:
        return Result(code)
    except ValueError:
        return Result.NETWORK_FAILURE
