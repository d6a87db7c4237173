"""The networks that people sit in, who is paired with whom, and what theory says of each pair."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from simulation.processes.nat.behaviour import (
    ADDRESS_RESTRICTED,
    FIREWALL,
    FULL_CONE,
    PORT_RESTRICTED,
    SYMMETRIC,
    Behaviour,
    Filtering,
    in_a_row,
)
from simulation.processes.nat.behaviour import Mapping as NatMapping


@dataclass(frozen=True, slots=True)
class Situation:
    """`routers` from the outermost on; `only_relay`: UDP goes to the relay and nowhere else."""

    name: str
    summary: str
    routers: tuple[Behaviour, ...] = ()
    only_relay: bool = False

    @property
    def behaviour(self) -> Behaviour:
        return in_a_row(self.routers)


SITUATIONS: Final[Mapping[str, Situation]] = {
    each.name: each
    for each in (
        Situation("public", "a public address and nothing between"),
        Situation("firewall", "a public address behind a firewall with a memory", (FIREWALL,)),
        Situation("full-cone", "a NAT that lets everybody in once it maps", (FULL_CONE,)),
        Situation(
            "address-restricted", "a NAT that lets in whom we sent to", (ADDRESS_RESTRICTED,)
        ),
        Situation(
            "port-restricted",
            "a NAT that lets in the very port that we sent to",
            (PORT_RESTRICTED,),
        ),
        Situation("symmetric", "a NAT with another port for each peer", (SYMMETRIC,)),
        Situation("carrier", "a home's NAT behind a provider's NAT", (PORT_RESTRICTED,) * 2),
        Situation(
            "blocked", "a firewall that lets UDP to the relay only", (PORT_RESTRICTED,), True
        ),
    )
}

SAME_LAN: Final = "same-lan"
SAME_NAT: Final = "same-nat"
SAME_CARRIER: Final = "same-carrier"
TOGETHER: Final[Mapping[str, str]] = {
    SAME_LAN: "both on one segment of one home",
    SAME_NAT: "on two segments of one home, which its router joins",
    SAME_CARRIER: "two homes of one provider, whose NAT does not turn packets round",
}


class Meeting(StrEnum):
    """Whom both can talk to before they have met."""

    RELAY = "relay"
    PEER = "peer"  # a contact of both, who is also their way into the DHT; there is no relay


class Reached(StrEnum):
    DIRECT = "direct"
    RELAY = "relay"
    NOT = "not"


@dataclass(frozen=True, slots=True)
class Case:
    """A pair. `one` and `other` are situations, or both the name of a way to be together."""

    one: str
    other: str
    meeting: Meeting = Meeting.RELAY

    @property
    def name(self) -> str:
        pair = self.one if self.one in TOGETHER else f"{self.one} + {self.other}"
        return pair if self.meeting is Meeting.RELAY else f"{pair}, no relay"

    @property
    def theory(self) -> Reached:
        if self.one in TOGETHER:
            direct = self.one != SAME_CARRIER
        else:
            direct = can_be_direct(SITUATIONS[self.one], SITUATIONS[self.other])
        if direct:
            return Reached.DIRECT
        return Reached.RELAY if self.meeting is Meeting.RELAY else Reached.NOT


# Without a relay only what differs is looked at: each way to be direct once, and one that is not.
_WITHOUT_RELAY: Final = (
    ("public", "public"),
    ("public", "symmetric"),
    ("full-cone", "symmetric"),
    ("address-restricted", "symmetric"),
    ("firewall", "port-restricted"),
    ("port-restricted", "port-restricted"),
    ("carrier", "port-restricted"),
    ("symmetric", "symmetric"),
    (SAME_LAN, SAME_LAN),
)

CASES: Final = (
    *(Case(*pair) for pair in itertools.combinations_with_replacement(SITUATIONS, 2)),
    *(Case(name, name) for name in TOGETHER),
    *(Case(*pair, Meeting.PEER) for pair in _WITHOUT_RELAY),
)

# Where what is measured may differ from theory, and why. Each is looked at again when it changes.
EXPLAINED: Final[Mapping[str, str]] = {}


def chosen(names: Collection[str]) -> list[Case]:
    """The cases between these situations and ways to be together; all without any names."""
    return [case for case in CASES if not names or (case.one in names and case.other in names)]


def can_be_direct(one: Situation, other: Situation) -> bool:
    """Whether two in different places can send to each other, if somebody tells each where the
    other is seen (Ford, Srisuresh and Kegel: Peer-to-peer communication across NATs, 2005).

    A port that nobody can foretell is let in only where the port does not matter; of two of them,
    neither knows where to send.
    """
    if one.only_relay or other.only_relay:
        return False
    for here, there in ((one.behaviour, other.behaviour), (other.behaviour, one.behaviour)):
        if here.mapping is NatMapping.ADDRESS_AND_PORT_DEPENDENT:
            foreseen = there.mapping is not NatMapping.ADDRESS_AND_PORT_DEPENDENT
            if not foreseen or there.filtering is Filtering.ADDRESS_AND_PORT_DEPENDENT:
                return False
    return True
