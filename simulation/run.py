"""One scenario with one seed, from the first node to the last invariant."""

from __future__ import annotations

import time
import traceback
from collections import Counter, deque
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, Protocol

from simulation import scenarios as scenarios
from simulation.invariants import AT_THE_END, all_there
from simulation.scenario import SCENARIOS, Scenario, Sim, Violation
from simulation.stage import Node, Stage
from simulation.wire.stage import WireStage
from simulation.world.means import MODEL
from simulation.world.tuning import tuned
from simulation.world.world import World

WORLD = "world"
WIRE = "wire"
TIERS: dict[str, frozenset[str]] = {WORLD: World.features, WIRE: WireStage.features}
"""The tiers that run in one process, and what of `Stage.features` each of them has."""

LAST_CONVERGE_S = 300.0
LAST_DELIVERY_S = 6 * 3600.0
FIRST_LOOK_S = 1.0


@dataclass(frozen=True, slots=True)
class Plan:
    """What repeats a run, event for event; in the tier "wire" only what is planned for it."""

    scenario: str
    nodes: int
    seed: int
    mls: str = MODEL
    tier: str = WORLD


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

    lines: deque[str]  # the end of its event log
    print_lines: bool
    events: Counter[str]
    timeline: dict[Node, list[tuple[float, int, str]]]

    @property
    def digest(self) -> str: ...
    @property
    def engine_events(self) -> int: ...


def play(scenario: Scenario, sim: Sim) -> None:
    """The scenario, and what ends every one of them. Raises Violation."""
    scenario.play(sim)
    sim.wait(0.0)
    calm_down(sim)
    sim.agree(sim.groups, within=LAST_CONVERGE_S)
    end = sim.now + LAST_DELIVERY_S
    look_s = FIRST_LOOK_S
    while not all_there(sim) and sim.now < end:
        sim.wait(look_s)
        look_s *= 1.5
    for invariant in AT_THE_END:
        invariant(sim)


def calm_down(sim: Sim) -> None:
    """Whatever the scenario left broken is mended."""
    stage: Stage = sim.stage
    sim.note("the end begins: everything is mended")
    sim.trouble()
    for node in sim.honest:
        stage.fill_disk(node, False)
        stage.set_clock(node, 0.0)
    sim.heal()
    stage.release()
    for node in sim.insiders:
        sim.sleep(node)
    for node in sim.honest:
        sim.wake(node)
    sim.until(lambda: all(stage.awake(node) for node in sim.honest), within=60)


def run(plan: Plan, *, print_lines: bool = False) -> Result:
    """Whatever happens in it is in the answer; an engine that raises is a violation too."""
    scenario = SCENARIOS[plan.scenario]
    with ExitStack() as stack:
        world = _stage(plan, scenario, stack)
        world.print_lines = print_lines
        return _run(plan, scenario, world)


def _stage(plan: Plan, scenario: Scenario, stack: ExitStack) -> Logged:
    if plan.tier == WORLD:
        return World(plan.seed, relay="relay" in scenario.needs, mls=plan.mls)
    wire = WireStage(plan.seed)
    stack.callback(wire.close)
    return wire


def _run(plan: Plan, scenario: Scenario, world: Logged) -> Result:
    begun, worked = time.perf_counter(), time.process_time()
    sim = None
    finding = None
    try:
        with tuned(idle_s=scenario.idle_s, devices=plan.nodes):
            sim = Sim(world, plan.nodes, plan.seed)
            play(scenario, sim)
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
