"""Network addresses and relay addresses, with their text forms."""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from schemas.errors import Refused
from schemas.ids import DeviceKey
from schemas.limits import (
    ADDRESS_TEXT,
    ENDPOINT_ADDRESSES,
    RELAY_PROCESSES,
    RELAY_PROCESSES_TEXT,
)

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
    """A relay: where its processes listen, and the device key that all of them are pinned to.

    `address` is the first process, `others` are further ones, RELAY_PROCESSES at most in all. The
    key says which relay it is: two of these with one key are one relay whose list has changed. So
    whatever is kept per relay is kept by `device`; equality is of the whole value.
    """

    address: Address
    device: DeviceKey
    others: tuple[Address, ...] = ()

    def __post_init__(self) -> None:
        if self.others and (
            len(self.processes) > RELAY_PROCESSES
            or len(set(self.processes)) < len(self.processes)
            or len(_comma_list(self.processes)) > RELAY_PROCESSES_TEXT
        ):
            raise ValueError(f"a relay has up to {RELAY_PROCESSES} processes, each named once")

    @property
    def processes(self) -> tuple[Address, ...]:
        """Where its processes listen, one at least."""
        return (self.address, *self.others)

    def at(self, processes: Iterable[Address]) -> RelayAddress:
        """The same relay with these processes, one at least, each once; what is too much goes."""
        return _relay_at(processes, self.device)

    def order_for(self, owner: DeviceKey) -> tuple[Address, ...]:
        """Its processes, the one that serves this device's mailbox first.

        Rendezvous hashing (highest random weight): everybody finds the same order without asking,
        devices spread evenly, and a process that comes or goes moves its own devices only.
        """
        return tuple(sorted(self.processes, key=lambda each: _weight(owner, each), reverse=True))

    def nearest(self, owner: DeviceKey, count: int) -> RelayAddress:
        """The relay with its first `count` processes for that device: for what must be short."""
        return self.at(self.order_for(owner)[:count])

    def __str__(self) -> str:
        return f"{_comma_list(self.processes)}#{self.device}"

    @classmethod
    def parse(cls, text: str) -> RelayAddress:
        """From `HOST:PORT[,HOST:PORT…]#DEVICE_KEY`. Raises Refused `bad-relay`."""
        where, separator, key = text.strip().partition("#")
        try:
            if not separator:
                raise ValueError("no key")
            first, *others = _read_comma_list(where, default_port=DEFAULT_PORT)
            return cls(first, DeviceKey.from_hex(key), tuple(others))
        except ValueError:
            raise Refused(
                "bad-relay",
                f"not a relay's address: {text[:80]!r}",
                hint="write HOST:PORT#DEVICE_KEY, as the relay prints it when it starts",
            ) from None

    @property
    def on_wire(self) -> tuple[str, int]:
        """Host and port of the one process; of several, all as `HOST:PORT,…`, and 0."""
        return (_comma_list(self.processes), 0) if self.others else self.address

    @classmethod
    def from_wire(cls, host: str, port: int, device: DeviceKey) -> RelayAddress:
        """What `on_wire` gave. Raises ValueError (call inside `blaming_the_peer`)."""
        if port or "," not in host:
            if len(host) > ADDRESS_TEXT:
                raise ValueError("too long a host")
            return cls(Address(host, port), device)
        first, *others = _read_comma_list(host)
        return cls(first, device, tuple(others))


def read_processes(texts: Sequence[str], *, default_port: int | None = None) -> list[Address]:
    """Where processes of a relay listen: RELAY_PROCESSES at most, names allowed; each once.

    Raises ValueError (call inside `blaming_the_peer`).
    """
    if len(texts) > RELAY_PROCESSES:
        raise ValueError("too many processes")
    try:
        return list(dict.fromkeys(Address.parse(each, default_port=default_port) for each in texts))
    except Refused as refused:
        raise ValueError(refused.message) from refused


def each_once(relays: Iterable[RelayAddress]) -> list[RelayAddress]:
    """Each relay once, in order; what is said of one in several places is put together."""
    processes: dict[DeviceKey, list[Address]] = {}
    for relay in relays:
        processes.setdefault(relay.device, []).extend(relay.processes)
    return [_relay_at(found, device) for device, found in processes.items()]


def _relay_at(processes: Iterable[Address], device: DeviceKey) -> RelayAddress:
    first, *others = list(dict.fromkeys(processes))[:RELAY_PROCESSES]
    while len(_comma_list((first, *others))) > RELAY_PROCESSES_TEXT and others:
        others.pop()
    return RelayAddress(first, device, tuple(others))


def _weight(owner: DeviceKey, process: Address) -> bytes:
    return hashlib.sha256(bytes(owner) + str(process).lower().encode()).digest()


def _comma_list(addresses: Sequence[Address]) -> str:
    return ",".join(map(str, addresses))


def _read_comma_list(text: str, *, default_port: int | None = None) -> list[Address]:
    """One address at least, each once. Raises ValueError."""
    if len(text) > RELAY_PROCESSES_TEXT:
        raise ValueError("too long")
    return read_processes(text.split(","), default_port=default_port)


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
