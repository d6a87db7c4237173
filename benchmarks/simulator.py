"""How fast the simulator is in its first tier: engines with a model of MLS, and virtual time."""

from __future__ import annotations

from typing import Final

from benchmarks.report import Row
from simulation.many import quieten
from simulation.run import Plan, run
from simulation.scenario import SCENARIOS

PLAYED: Final = ("quiet-group", "partition-and-heal", "asleep-ten-days")
EVENTS_PER_MINUTE: Final = 100_000.0
HOUR_S: Final = 3600.0


def rows(quick: bool) -> list[Row]:
    quieten()
    found = []
    for name in PLAYED:
        nodes = SCENARIOS[name].nodes
        results = [run(Plan(name, nodes, seed)) for seed in range(1 if quick else 5)]
        broken = [result.plan.seed for result in results if result.finding is not None]
        cpu_s = sum(result.cpu_s for result in results)
        wall_s = sum(result.wall_s for result in results)
        events = sum(result.engine_events for result in results)
        node_hours = sum(result.virtual_s for result in results) * nodes / HOUR_S
        seeds = f"{len(results)} seeds" + (f", BROKEN: {broken}" if broken else "")
        found += [
            Row(
                f"{name}, {nodes} nodes: engine events a minute and core",
                events / cpu_s * 60,
                "/min",
                target=EVENTS_PER_MINUTE,
                of="value",
                note=f"{events:,} commands in {cpu_s:.1f} s of CPU; {seeds}",
            ),
            Row(
                f"{name}, {nodes} nodes: node-hours a second",
                node_hours / wall_s,
                "h/s",
                note=f"{node_hours:,.1f} h; {node_hours / cpu_s:,.3g} h per second of CPU",
            ),
        ]
    return found
