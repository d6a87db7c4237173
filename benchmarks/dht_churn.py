"""The DHT under churn, simulated: whether authors are found, how soon, and at what cost."""

from __future__ import annotations

from typing import Final

from benchmarks.report import Row
from simulation.dht.figures import KIB, Result
from simulation.dht.network import PURPOSES
from simulation.dht.plan import variants
from simulation.dht.run import run

NODES: Final = 1_000
QUICK_NODES: Final = 100
PERCENT: Final = 100.0


def rows(quick: bool) -> list[Row]:
    found = []
    for plan in variants(QUICK_NODES if quick else NODES, 0):
        found += _rows(run(plan, lambda part: None))
    return found


def _rows(result: Result) -> list[Row]:
    plan, spread = result.plan, result.spread()
    where = f"{plan.nodes} nodes {plan.variant}"
    broken = "" if result.finding is None else f", BROKEN: {result.finding.invariant}"
    found = [
        Row(
            f"{where}: look-ups that find the newest record",
            result.success * PERCENT,
            "%",
            target=plan.target * PERCENT,
            of="value",
            note=f"of {len(result.lookups):,}{broken}",
        )
    ]
    for name, what, unit in (
        ("hops", "hops to the first record", ""),
        ("first_s", "to the first record", "s"),
        ("seconds", "until all paths ended", "s"),
        ("messages", "requests of a look-up", ""),
    ):
        median, late, worst = spread[name]
        note = f"p99 {late:.3g}, worst {worst:.3g}"
        found.append(Row(f"{where}: {what}, median", median, unit, note=note))
    for purpose in PURPOSES:
        requests, size = result.per_node_and_hour(purpose)
        note = f"{size / KIB:,.0f} KiB both ways"
        found.append(Row(f"{where}: {purpose}, a node and hour", requests, "requests", note=note))
    found.append(
        Row(
            f"{where}: requests simulated a second",
            result.events / result.cpu_s,
            "/s",
            note=f"{result.events:,} in {result.cpu_s:.0f} s of CPU",
        )
    )
    return found
