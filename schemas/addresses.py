"""Network addresses and relay addresses, with their text forms."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from schemas.errors import Refused
from schemas.ids import DeviceKey
from schemas.limits import ADDRESS_TEXT

DEFAULT_PORT = 7000


class Address(NamedTuple):
    """A UDP address: numeric host or DNS name, and port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @classmethod
    def parse(cls, text: str, *, default_port: int | None = None) -> Address:
        """From `HOST:PORT` or `[IPV6]:PORT`. Raises Refused `bad-address`."""
        host, separator, port = text.rpartition(":")
        if default_port is not None and (not separator or text.endswith("]")):
            host, port = text, str(default_port)
        bracketed = host.startswith("[") and host.endswith("]")
        host = host[1:-1] if bracketed else host
        digits = port.isascii() and port.isdigit() and len(port) <= 5
        if (
            not host
            or len(host) > ADDRESS_TEXT
            or (":" in host) != bracketed
            or not digits
            or not 0 <= int(port) <= 65535
            or any(c.isspace() or ord(c) < 33 for c in host)
        ):
            raise Refused(
                "bad-address",
                f"not an address: {text[:80]!r}",
                hint="write HOST:PORT, or [IPV6]:PORT",
            )
        return cls(host, int(port))


class AddressKind(StrEnum):
    """Where an address is good: on the local network, anywhere, or as punched through a NAT."""

    LAN = "lan"
    PUBLIC = "public"
    PUNCHED = "punched"


@dataclass(frozen=True, slots=True)
class EndpointAddress:
    """An address with its kind, as endpoint records carry it."""

    address: Address
    kind: AddressKind


@dataclass(frozen=True, slots=True)
class RelayAddress:
    """A relay: where it listens, and the device key it is pinned to."""

    address: Address
    device: DeviceKey

    def __str__(self) -> str:
        return f"{self.address}#{self.device}"

    @classmethod
    def parse(cls, text: str) -> RelayAddress:
        """From `HOST:PORT#DEVICE_KEY`. Raises Refused `bad-relay`."""
        where, separator, key = text.strip().partition("#")
        try:
            if not separator:
                raise ValueError("no key")
            return cls(Address.parse(where, default_port=DEFAULT_PORT), DeviceKey.from_hex(key))
        except ValueError:
            raise Refused(
                "bad-relay",
                f"not a relay's address: {text[:80]!r}",
                hint="write HOST:PORT#DEVICE_KEY, as the relay prints it when it starts",
            ) from None
