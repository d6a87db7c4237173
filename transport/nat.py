"""What stands between this machine and the Internet, inferred from what others saw of us; pure.

The words are those of RFC 4787. Each observer may lie, so what is inferred says how many agree; who
controls most of the places that we ask can tell us anything, and gains that we use relays more, or
dial in vain.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import ip_address

from schemas.addresses import Address

from .admission import prefix_of


class NatMapping(StrEnum):
    """What the address that others see depends on (RFC 4787, section 4.1)."""

    NONE = "none"  # nothing is translated
    ENDPOINT_INDEPENDENT = "endpoint-independent"  # one for all
    ADDRESS_DEPENDENT = "address-dependent"  # another for each peer ("symmetric")
    UNKNOWN = "unknown"


class NatFiltering(StrEnum):
    """Whose packets come in (RFC 4787, section 5)."""

    ENDPOINT_INDEPENDENT = "endpoint-independent"  # everybody's
    ADDRESS_DEPENDENT = "address-dependent"  # from hosts that we have sent to; or everybody's
    ADDRESS_AND_PORT_DEPENDENT = "address-and-port-dependent"  # only answers to what we sent
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Sighting:
    """`observer` (its address as we see it) says that our packets come from `seen`."""

    observer: Address
    seen: Address


@dataclass(frozen=True, slots=True)
class DialBack:
    """`observer` dialled what it sees as our address from a port that we had not sent to."""

    observer: Address
    reached: bool


@dataclass(frozen=True, slots=True)
class Nat:
    """`seen` by `agree` of `observers` places; `tested` places dialled back."""

    mapping: NatMapping
    filtering: NatFiltering
    seen: Address | None
    agree: int
    observers: int
    tested: int


def infer(
    own: Collection[str],
    sightings: Iterable[Sighting],
    dial_backs: Iterable[DialBack] = (),
    *,
    strangers: bool = False,
) -> Nat:
    """What the evidence shows, for one family of addresses.

    `own`: hosts of our adapters. `strangers`: somebody beyond our network, to whose host we had
    sent nothing, has dialled us. Of each place (a /24, a /56) the last word counts, and only of
    places and of addresses on the Internet: neighbours see us before any translation.
    """
    seen_from = {
        place: each.seen
        for each in sightings
        if (place := _place(each.observer)) and _out(each.seen)
    }
    reached_from = {place: each.reached for each in dial_backs if (place := _place(each.observer))}
    counted = Counter(seen_from.values())
    seen, agree = counted.most_common(1)[0] if counted else (None, 0)
    return Nat(
        _mapping(own, seen, agree, len(seen_from)),
        NatFiltering.ENDPOINT_INDEPENDENT if strangers else _filtering(reached_from),
        seen,
        agree,
        len(seen_from),
        len(reached_from),
    )


def _mapping(own: Collection[str], seen: Address | None, agree: int, observers: int) -> NatMapping:
    if seen is not None and seen.host in own:
        return NatMapping.NONE
    if observers < 2:
        return NatMapping.UNKNOWN  # one place sees one address, whatever the router does
    if agree > observers - agree:
        # Two places that see the same cannot both have been given one of their own.
        return NatMapping.ENDPOINT_INDEPENDENT
    return NatMapping.ADDRESS_DEPENDENT if agree == 1 else NatMapping.UNKNOWN


def _filtering(reached: Mapping[bytes, bool]) -> NatFiltering:
    yes = sum(reached.values())
    no = len(reached) - yes
    if yes == no:
        return NatFiltering.UNKNOWN
    if yes > no:
        return NatFiltering.ADDRESS_DEPENDENT
    return NatFiltering.ADDRESS_AND_PORT_DEPENDENT


def _place(observer: Address) -> bytes | None:
    return prefix_of(observer.host) if _out(observer) else None


def _out(address: Address) -> bool:
    """Whether it is an address on the Internet."""
    try:
        return ip_address(address.host).is_global
    except ValueError:
        return False
