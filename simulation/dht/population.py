"""Who takes part: nodes that answer, that only seem to, that lie; and how long each stays."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from enum import Enum
from typing import Final

from discovery.dht.contact import Reach, place_of
from schemas.addresses import DEFAULT_PORT, Address
from simulation.dht.plan import Plan

WELL_KNOWN: Final = 3  # relays: honest, always there, and where newcomers begin


class Kind(Enum):
    """`SILENT`: announces itself and is in tables; a NAT keeps out all whom it did not dial."""

    RELAY = "relay"
    HONEST = "honest"
    SILENT = "silent"
    LIAR = "liar"

    @property
    def stays(self) -> bool:
        """Liars do: who is in tables for long gets the more requests."""
        return self in (Kind.RELAY, Kind.LIAR)


def kinds(plan: Plan) -> list[Kind]:
    """Of the nodes that are online at any time; the relays first."""
    silent = round(plan.nodes * plan.unresponsive)
    liars = round(plan.nodes * plan.malicious)
    honest = plan.nodes - WELL_KNOWN - silent - liars
    return [
        *[Kind.RELAY] * WELL_KNOWN,
        *[Kind.HONEST] * honest,
        *[Kind.SILENT] * silent,
        *[Kind.LIAR] * liars,
    ]


def session_s(plan: Plan, rng: random.Random) -> float:
    """Exponential, with the plan's median."""
    return rng.expovariate(math.log(2) / plan.median_session_s)


def addresses(rng: random.Random) -> Iterator[Address]:
    """Public IPv4 addresses, no two alike; two in one /24 are rare."""
    given = set()
    while True:
        host = ".".join(str(rng.randrange(1, 224 if place == 0 else 255)) for place in range(4))
        if host not in given and place_of(host)[0] is Reach.ANYWHERE:
            given.add(host)
            yield Address(host, DEFAULT_PORT)
