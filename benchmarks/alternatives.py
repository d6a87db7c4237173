"""What each simpler rule of fork choice breaks, with the real engine: it, and ours, on the same
seeds."""

from __future__ import annotations

from typing import Final

from benchmarks.report import Row
from node.engine.groups.fork_choice import RULES
from simulation.many import quieten
from simulation.run import BEST_RULE, Plan, Result, run

SEEDS: Final = 10
# rule -> scenario, nodes
WITNESSES: Final[dict[str, tuple[str, int]]] = {
    "sticky": ("two-members", 2),
    "final-bound": ("six-apart", 3),
    "head-voters": ("one-adds-a-third", 2),
    "first-siblings": ("three-siblings", 7),
    "void-siblings": ("three-siblings", 7),
    "targets-mute": ("late-removal", 3),
    "static-order": ("withheld-from-readers", 6),
    "longest-chain": ("fast-insider", 6),
    "quiet-reset": ("equivocating-member", 9),
    "state-on-send": ("withheld-from-readers", 6),
    "state-at-once": ("race", 8),
    "no-reseal": ("partition-and-heal", 8),
}
assert set(WITNESSES) == set(RULES) - {BEST_RULE}


def rows(quick: bool) -> list[Row]:
    quieten()
    seeds = range(2 if quick else SEEDS)
    found = []
    ours: dict[tuple[str, int], int] = {}
    for rule, (scenario, nodes) in WITNESSES.items():
        if (scenario, nodes) not in ours:
            own = [run(Plan(scenario, nodes, seed)) for seed in seeds]
            ours[scenario, nodes] = len(_broken(own))
        broken = _broken([run(Plan(scenario, nodes, seed, rule=rule)) for seed in seeds])
        found.append(
            Row(
                f"`{rule}`: {scenario}, {nodes} nodes",
                len(broken),
                f"of {len(seeds)} seeds broken",
                note=f"{_told(broken)}; ours: {ours[scenario, nodes]}",
            )
        )
    return found


def _broken(results: list[Result]) -> list[Result]:
    return [result for result in results if result.finding is not None]


def _told(broken: list[Result]) -> str:
    """The first of them, in a line."""
    if not broken or broken[0].finding is None:
        return "not seen"
    finding = broken[0].finding
    return f"seed {broken[0].plan.seed}: {finding.invariant}: {finding.detail.splitlines()[0]}"
