"""One scenario with one seed, from the first node to the last invariant."""

from __future__ import annotations

import time
import traceback
from collections import Counter, deque
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, Protocol

from node.engine.groups.fork_choice import RULES
from simulation import scenarios as scenarios
from simulation.invariants import AT_THE_END, settled
from simulation.processes.scenarios import PROCESS_SCENARIOS
from simulation.processes.stage import ProcessStage
from simulation.scenario import SCENARIOS, Scenario, Sim, Violation
from simulation.stage import Node, Stage
from simulation.wire.stage import WireStage
from simulation.world.means import MODEL
from simulation.world.tuning import tuned
from simulation.world.world import World

WORLD = "world"
WIRE = "wire"
PROCESSES = "processes"
TIERS: dict[str, frozenset[str]] = {
    WORLD: World.features,
    WIRE: WireStage.features,
    PROCESSES: ProcessStage.features,
}
"""What of `Stage.features` each tier has."""

FIRST_LOOK_S = 1.0


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds until the members must be in one epoch at the end, and then have everything."""

    converge_s: float
    delivery_s: float


VIRTUAL = Patience(300.0, 6 * 3600.0)
REAL_TIME = Patience(30.0, 30.0)
BEST_RULE = "H"


@dataclass(frozen=True, slots=True)
class Plan:
    """What repeats a run, event for event; in the tier "wire" only what is planned for it."""

    scenario: str
    nodes: int
    seed: int
    mls: str = MODEL
    tier: str = WORLD
    rule: str = BEST_RULE  # of fork choice; the tier "world" has the alternatives too


@dataclass(slots=True)
class Finding:
    """A violation, and what led to it."""

    invariant: str
    detail: str
    node: Node | None
    at: float  # virtual seconds
    lines: list[str]


@dataclass(slots=True)
class Result:
    plan: Plan
    digest: str
    finding: Finding | None
    engine_events: int
    virtual_s: float
    cpu_s: float  # of this process: others do not count
    wall_s: float
    messages: int
    refused: int
    converged: list[float]
    events: dict[str, int]
    timeline: dict[Node, list[tuple[float, int, str]]] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        finding = self.finding
        return {
            "scenario": self.plan.scenario,
            "nodes": self.plan.nodes,
            "seed": self.plan.seed,
            "mls": self.plan.mls,
            "tier": self.plan.tier,
            "rule": self.plan.rule,
            "digest": self.digest,
            "violation": None
            if finding is None
            else {
                "invariant": finding.invariant,
                "detail": finding.detail,
                "node": finding.node,
                "at_s": finding.at,
                "log": finding.lines,
            },
            "engine_events": self.engine_events,
            "virtual_s": self.virtual_s,
            "cpu_s": self.cpu_s,
            "wall_s": self.wall_s,
            "messages": self.messages,
            "refused": self.refused,
            "converged_s": self.converged,
            "events": self.events,
        }


class Logged(Stage, Protocol):
    """A stage that tells afterwards what happened on it."""

    print_lines: bool
    events: Counter[str]
    timeline: dict[Node, list[tuple[float, int, str]]]

    @property
    def lines(self) -> deque[str]:
        """The end of its event log."""

    @property
    def digest(self) -> str: ...
    @property
    def engine_events(self) -> int: ...


def scenarios_of(tier: str) -> dict[str, Scenario]:
    """By name. Real processes have their own: time costs time there."""
    return PROCESS_SCENARIOS if tier == PROCESSES else SCENARIOS


def play(scenario: Scenario, sim: Sim, patience: Patience = VIRTUAL) -> None:
    """The scenario, and what ends every one of them. Raises Violation."""
    scenario.play(sim)
    sim.wait(0.0)
    sim.repair()
    sim.agree(sim.groups, within=patience.converge_s)
    end = sim.now + patience.delivery_s
    look_s = FIRST_LOOK_S
    while not settled(sim) and sim.now < end:
        sim.wait(look_s)
        look_s *= 1.5
        sim.agree(sim.groups, within=patience.converge_s)  # who is between two branches says little
    for invariant in AT_THE_END:
        invariant(sim)


def run(plan: Plan, *, print_lines: bool = False) -> Result:
    """Whatever happens in it is in the answer; an engine that raises is a violation too.

    Raises Fault `no-namespaces` for the tier "processes" where there can be none.
    """
    scenario = scenarios_of(plan.tier)[plan.scenario]
    with ExitStack() as stack:
        world = _stage(plan, scenario, stack)
        world.print_lines = print_lines
        return _run(plan, scenario, world)


def _stage(plan: Plan, scenario: Scenario, stack: ExitStack) -> Logged:
    relay = "relay" in scenario.needs
    if plan.tier == WORLD:
        return World(plan.seed, relay=relay, mls=plan.mls, rule=RULES[plan.rule])
    if plan.tier == PROCESSES:
        return stack.enter_context(ProcessStage.opened(plan.seed, relay=relay))
    wire = WireStage(plan.seed, relay=relay)
    stack.callback(wire.close)
    return wire


def _run(plan: Plan, scenario: Scenario, world: Logged) -> Result:
    begun, worked = time.perf_counter(), time.process_time()
    sim = None
    finding = None
    try:
        with tuned(idle_s=scenario.idle_s, devices=plan.nodes):
            sim = Sim(world, plan.nodes, plan.seed)
            play(scenario, sim, REAL_TIME if plan.tier == PROCESSES else VIRTUAL)
    except Violation as found:
        finding = Finding(found.invariant, found.detail, found.node, world.now, [*world.lines])
    except Exception as error:  # noqa: BLE001 - whatever it is, the seed repeats it
        finding = Finding("no-crash", _told(error), None, world.now, [*world.lines])
    record = None if sim is None else sim.record
    return Result(
        plan,
        world.digest,
        finding,
        world.engine_events,
        world.now,
        time.process_time() - worked,
        time.perf_counter() - begun,
        0 if record is None else len(record.sent),
        0 if record is None else record.refused,
        [] if record is None else record.converged,
        dict(world.events),
        world.timeline,
    )


def _told(error: Exception) -> str:
    return "".join(traceback.format_exception(error))
