"""What a run of `dht-churn` amounts to: its figures as JSON, and as a table beside the targets."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from rich.table import Table

from simulation.dht.plan import Plan

OUTCOMES: Final = ("found", "stale", "nothing", "forged")
AGES: Final = (("under 5 min", 300.0), ("5 to 30 min", 1_800.0), ("over 30 min", math.inf))
SPREADS: Final = {
    "hops": "hops to the first record",
    "messages": "messages of a look-up",
    "first_s": "seconds to the first record",
    "seconds": "seconds until all paths ended",
}
HOUR_S: Final = 3_600.0
KIB: Final = 1024.0


@dataclass(frozen=True, slots=True)
class Lookup:
    """One look-up of an author who was online throughout.

    `outcome`: `found` is the newest record; `stale` an older one; `nothing`; `forged` a record
    that the author never signed. `hops`: how many nodes had to be asked one after the other until
    the newest record came; None when it did not. `asked_at`: virtual seconds.
    """

    asked_at: float
    reader: str
    author: str
    author_online_s: float
    outcome: str
    hops: int | None
    messages: int  # requests that left the reader
    first_s: float | None  # until the first record that counts
    seconds: float  # until all paths had ended


@dataclass(frozen=True, slots=True)
class Traffic:
    """Requests and bytes, both ways together, while it was measured; over all nodes."""

    requests: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Tables:
    """Routing tables at the end: means over the honest nodes."""

    contacts: float
    answering: float  # of the contacts, the part (0 to 1) that is online and answers
    malicious: float


@dataclass(frozen=True, slots=True)
class Finding:
    """An invariant that did not hold."""

    invariant: str
    detail: str
    at_s: float


@dataclass(slots=True)
class Result:
    """One variant of one seed. `digest`: SHA-256 of its event log."""

    plan: Plan
    digest: str
    finding: Finding | None
    lookups: list[Lookup]
    traffic: dict[str, Traffic]  # by purpose
    tables: Tables
    joins: int
    leaves: int
    events: int  # requests that the simulator carried, from the beginning
    virtual_s: float
    cpu_s: float
    refused: dict[str, int] = field(default_factory=dict)  # what nodes did not believe, by reason

    @property
    def success(self) -> float:
        """The part (0 to 1) of the look-ups that found the newest record."""
        return _share(one.outcome == "found" for one in self.lookups)

    @property
    def met(self) -> bool:
        return self.success >= self.plan.target

    def per_node_and_hour(self, purpose: str) -> tuple[float, float]:
        """Requests, and bytes both ways."""
        node_hours = self.plan.nodes * self.plan.measured_s / HOUR_S
        traffic = self.traffic[purpose]
        return traffic.requests / node_hours, traffic.bytes / node_hours

    def as_json(self) -> dict[str, Any]:
        finding = self.finding
        return {
            "variant": self.plan.variant,
            "seed": self.plan.seed,
            "lookups": len(self.lookups),
            "success": _rounded(self.success),
            "target": self.plan.target,
            "met": self.met,
            "outcomes": {
                name: sum(one.outcome == name for one in self.lookups) for name in OUTCOMES
            },
            "success_by_author_online": {
                name: _rounded(_share(one.outcome == "found" for one in group))
                for name, group in self.by_age()
            },
            **{
                f"{name}_{at}": _rounded(value)
                for name, values in self.spread().items()
                for at, value in zip(("p50", "p99", "max"), values, strict=True)
            },
            "traffic_per_node_and_hour": {
                purpose: {"requests": round(requests, 1), "bytes": round(size)}
                for purpose in self.traffic
                for requests, size in [self.per_node_and_hour(purpose)]
            },
            "tables": {
                "contacts": round(self.tables.contacts, 1),
                "answering": _rounded(self.tables.answering),
                "malicious": _rounded(self.tables.malicious),
            },
            "refused": dict(sorted(self.refused.items())),
            "joins": self.joins,
            "leaves": self.leaves,
            "events": self.events,
            "events_per_second": round(self.events / (self.cpu_s or 1e-9)),
            "virtual_s": self.virtual_s,
            "cpu_s": round(self.cpu_s, 1),
            "digest": self.digest,
            "violation": None
            if finding is None
            else {
                "invariant": finding.invariant,
                "detail": finding.detail,
                "at_s": finding.at_s,
            },
        }

    def by_age(self) -> list[tuple[str, list[Lookup]]]:
        groups: list[tuple[str, list[Lookup]]] = [(name, []) for name, _ in AGES]
        for one in self.lookups:
            at = next(i for i, (_, below) in enumerate(AGES) if one.author_online_s < below)
            groups[at][1].append(one)
        return groups

    def spread(self) -> dict[str, tuple[float, float, float]]:
        """Median, 99th percentile and worst of what look-ups took."""
        return {
            "hops": percentiles([one.hops for one in self.lookups if one.hops is not None]),
            "messages": percentiles([one.messages for one in self.lookups]),
            "first_s": percentiles(
                [one.first_s for one in self.lookups if one.first_s is not None]
            ),
            "seconds": percentiles([one.seconds for one in self.lookups]),
        }


def percentiles(values: Sequence[float]) -> tuple[float, float, float]:
    """Median, 99th percentile (nearest rank) and maximum; NaN of nothing."""
    if not values:
        return math.nan, math.nan, math.nan
    ordered = sorted(values)
    ranks = (math.ceil(part * len(ordered)) - 1 for part in (0.5, 0.99, 1.0))
    median, late, last = (ordered[rank] for rank in ranks)
    return median, late, last


def as_table(results: Sequence[Result]) -> Table:
    """A column for each variant, the targets beside the figures."""
    table = Table("", *(f"{one.plan.variant}, seed {one.plan.seed}" for one in results))
    for label, cells in _lines(results):
        table.add_row(label, *cells)
    return table


def _lines(results: Sequence[Result]) -> Iterable[tuple[str, list[str]]]:
    def line(label: str, cell: Any) -> tuple[str, list[str]]:
        return label, [cell(one) for one in results]

    yield line("look-ups that found the newest record", _success)
    yield line("target", lambda one: f">= {one.plan.target:.0%} {_verdict(one)}")
    for at, (age, _) in enumerate(AGES):
        yield line(f"  author online {age}", lambda one, at=at: _part(one.by_age()[at][1]))
    for name, label in SPREADS.items():
        yield line(
            f"{label}, p50 / p99 / most",
            lambda one, name=name: " / ".join(f"{value:.3g}" for value in one.spread()[name]),
        )
    for purpose in results[0].traffic if results else ():
        yield line(
            f"{purpose}, a node and hour", lambda one, purpose=purpose: _traffic(one, purpose)
        )
    yield line("contacts in a routing table", lambda one: f"{one.tables.contacts:.0f}")
    yield line("  that answer / malicious", lambda one: (
        f"{one.tables.answering:.1%} / {one.tables.malicious:.1%}"
    ))  # fmt: skip
    yield line("nodes that came / went", lambda one: f"{one.joins:,} / {one.leaves:,}")
    yield line("simulated", lambda one: (
        f"{one.events:,} requests in {one.cpu_s:.0f} s of CPU: {one.events / one.cpu_s:,.0f}/s"
    ))  # fmt: skip


def _traffic(one: Result, purpose: str) -> str:
    requests, size = one.per_node_and_hour(purpose)
    return f"{requests:,.0f} requests, {size / KIB:,.0f} KiB"


def _success(one: Result) -> str:
    return _part(one.lookups)


def _part(lookups: Sequence[Lookup]) -> str:
    found = sum(one.outcome == "found" for one in lookups)
    return f"{found / len(lookups):.2%} ({found:,} of {len(lookups):,})" if lookups else "-"


def _verdict(one: Result) -> str:
    return "[green]met[/green]" if one.met else "[bold red]MISSED[/bold red]"


def _share(holds: Iterable[bool]) -> float:
    """NaN of nothing."""
    counted = list(holds)
    return sum(counted) / len(counted) if counted else math.nan


def _rounded(value: float) -> float | None:
    """None for NaN, which JSON does not have."""
    return None if math.isnan(value) else round(value, 5)
