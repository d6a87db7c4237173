"""Network addresses and relay addresses, with their text forms."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from schemas.errors import Refused
from schemas.ids import DeviceKey
from schemas.limits import ADDRESS_TEXT, ENDPOINT_ADDRESSES

DEFAULT_PORT = 7000


class Address(NamedTuple):
    """A UDP address. `host` is an IPv4 or IPv6 literal (scope id allowed) or a DNS name."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_literal(self) -> bool:
        """True when no name has to be looked up."""
        return is_ip(self.host, 4) or is_ip(self.host, 6)

    @classmethod
    def parse(cls, text: str, *, default_port: int | None = None) -> Address:
        """From `HOST:PORT` or `[IPV6]:PORT`. Raises Refused `bad-address`."""
        if len(text) > ADDRESS_TEXT:
            raise _bad(text[:32] + "…", f"longer than {ADDRESS_TEXT} characters")
        host, colon, digits = text.rpartition(":")
        if default_port is not None and (not colon or text.endswith("]")):
            host, colon, digits = text, ":", str(default_port)
        if not colon:
            raise _bad(text, "there is no port")
        if not (digits.isascii() and digits.isdigit() and len(digits) <= 5 and int(digits) < 65536):
            raise _bad(text, "the port is not a number from 0 to 65535")
        if host.startswith("[") and host.endswith("]"):
            host = host[1:-1]
            if not is_ip(host, 6):
                raise _bad(text, "what stands in brackets is not an IPv6 address")
        elif ":" in host:
            raise _bad(text, "an IPv6 address needs brackets")
        elif not _is_host(host):
            raise _bad(text, "the host is neither an address nor a name")
        return cls(host, int(digits))


def read_addresses(texts: Sequence[str]) -> tuple[Address, ...]:
    """At most ENDPOINT_ADDRESSES numeric addresses with a port and no scope; each once.

    Raises ValueError (call inside `blaming_the_peer`).
    """
    if len(texts) > ENDPOINT_ADDRESSES:
        raise ValueError("too many addresses")
    found: dict[Address, None] = {}
    for text in texts:
        try:
            address = Address.parse(text)
        except Refused as refused:
            raise ValueError(refused.message) from refused
        if not address.is_literal or not address.port or "%" in address.host:
            raise ValueError("not a numeric address")
        found[address] = None
    return tuple(found)


def is_ip(host: str, version: int) -> bool:
    """`host` is a literal of that IP version."""
    try:
        return ipaddress.ip_address(host).version == version
    except ValueError:
        return False


def _is_host(host: str) -> bool:
    if is_ip(host, 4):
        return True
    labels = host.removesuffix(".").split(".")
    return (
        all(
            0 < len(label) <= 63
            and label.isascii()
            and label.replace("-", "").replace("_", "").isalnum()
            and not label.startswith("-")
            for label in labels
        )
        and not labels[-1].isdigit()
    )


def _bad(text: str, why: str) -> Refused:
    return Refused(
        "bad-address",
        f"{text!r} is not an address: {why}",
        hint="write HOST:PORT, for example 192.0.2.7:7000 or [2001:db8::7]:7000",
    )


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


@dataclass(frozen=True, slots=True)
class BootstrapAddress:
    """A node of the DHT to begin with; `device` None: whoever answers there."""

    address: Address
    device: DeviceKey | None

    def __str__(self) -> str:
        return str(self.address) if self.device is None else f"{self.address}#{self.device}"

    @classmethod
    def parse(cls, text: str) -> BootstrapAddress:
        """From `HOST:PORT` or `HOST:PORT#DEVICE_KEY`. Raises Refused `bad-bootstrap`."""
        where, separator, key = text.strip().partition("#")
        try:
            device = DeviceKey.from_hex(key) if separator else None
            return cls(Address.parse(where, default_port=DEFAULT_PORT), device)
        except (Refused, ValueError):
            raise Refused(
                "bad-bootstrap",
                f"not an address to begin with: {text[:80]!r}",
                hint="write HOST:PORT, or HOST:PORT#DEVICE_KEY as relays print it",
            ) from None
