"""What is asked of gateways, and what comes of it; frozen values."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from schemas.addresses import Address


class MappingProtocol(StrEnum):
    """In the order in which they are tried: the most exact first."""

    PCP = "pcp"
    NAT_PMP = "nat-pmp"
    UPNP = "upnp"


@dataclass(frozen=True, slots=True)
class Gateway:
    """A router that our packets leave through, and our own address towards it; literals."""

    host: str
    own: str


@dataclass(frozen=True, slots=True)
class Grant:
    """A mapping as a gateway gave it."""

    external: Address
    lifetime_s: int


@dataclass(frozen=True, slots=True)
class Mapped:
    """Datagrams to `external` come to our port until `until` (the loop's time), and then on."""

    external: Address
    protocol: MappingProtocol
    gateway: str
    until: float


@dataclass(frozen=True, slots=True)
class NotMapped:
    """No mapping, and why not.

    `code`: "no-gateway" (no private gateway towards which we listen), "no-answer" (gateways speak
    none of the protocols), "refused" (one does, and declines). `detail` has a clause per try.
    """

    code: str
    detail: str


Outcome = Mapped | NotMapped


class MappingClient(Protocol):
    """One mapping of one port at one gateway by one protocol."""

    @property
    def protocol(self) -> MappingProtocol: ...

    async def ask(self, lifetime_s: int) -> Grant:
        """Make the mapping, or make it last. Raises Unreachable, Refused, Malformed."""
        ...

    async def release(self) -> None:
        """Let go of it. Raises as `ask`."""
        ...


@dataclass(frozen=True, slots=True)
class MappingLimits:
    """Times in seconds, sizes in bytes."""

    lifetime_s: int = 3_600  # asked for; after a crash the router forwards for as long
    least_lifetime_s: int = 120  # believed at least: a gateway does not make us ask every second
    most_lifetime_s: int = 86_400  # believed at most (RFC 6887, section 15)
    tries_s: tuple[float, ...] = (0.25, 0.5, 1.0)  # waits for an answer; a LAN answers in 10 ms
    again_first_s: float = 60.0  # after nothing was given; doubling
    again_most_s: float = 1_800.0
    look_s: float = 15.0  # at the routing table: laptops move
    hint_s: float = 10.0  # at most so often an announcement makes us ask
    release_s: float = 0.3  # the end of the program waits no longer
    gateways: int = 3  # tried
    datagrams: int = 64  # taken in one exchange; more is a flood, not an answer
    search_s: float = 2.5  # for a gateway to answer a search for UPnP
    search_datagrams: int = 256  # taken in one search, whoever sent them: a LAN has tens of devices
    http_s: float = 5.0  # per request
    upnp_s: float = 15.0  # for all that one ask takes
    http_bytes: int = 128 * 1024  # of one answer; descriptions of real routers have up to 40 KiB
    http_requests: int = 24  # per description: it names what else has to be fetched


DEFAULT_MAPPING_LIMITS = MappingLimits()
