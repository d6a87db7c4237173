"""What repeats a run of `dht-churn`: how many nodes of which kind, for how long, how far apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

WITHOUT_MALICE: Final = "without malice"
WITH_MALICE: Final = "with malice"
FEWEST: Final = 20  # below, everybody knows everybody, and nothing is looked up


@dataclass(frozen=True, slots=True)
class Plan:
    """One variant of one seed. Times in virtual seconds; parts from 0 to 1.

    Sessions are exponential, as in the literature on churn since Rhea et al., "Handling churn in a
    DHT" (2004). Measured ones have a heavier tail (Stutzbach and Rejaie, 2006), which favours a
    table that keeps its oldest contacts: this is the harder of the two.
    """

    nodes: int  # online at any time
    seed: int
    malicious: float = 0.0
    unresponsive: float = 0.25
    median_session_s: float = 1_800.0
    returning: float = 0.5  # of those who come, the part that was here before
    latency_s: float = 0.05  # one way, between any two
    warm_up_s: float = 1_800.0
    measured_s: float = 1_200.0
    lookups: float = 3.0  # per node, while it is measured
    begins_s: float = 36_000.0  # after midnight, UTC: each day has cells of its own
    target: float = 0.99

    @property
    def variant(self) -> str:
        return WITH_MALICE if self.malicious else WITHOUT_MALICE


def variants(nodes: int, seed: int) -> tuple[Plan, Plan]:
    """The two that the project's targets are about."""
    return Plan(nodes, seed), Plan(nodes, seed, malicious=0.1, target=0.95)
