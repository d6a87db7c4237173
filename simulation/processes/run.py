"""One scenario of real processes, from the first node to the last invariant."""

from __future__ import annotations

import tempfile
import time
import traceback
from pathlib import Path
from typing import Final

from simulation.invariants import AT_THE_END, all_there
from simulation.processes.scenarios import CONVERGES_S, PROCESS_SCENARIOS
from simulation.processes.stage import ProcessStage
from simulation.run import Finding, Plan, Result, calm_down
from simulation.scenario import Scenario, Sim, Violation

LAST_DELIVERY_S: Final = 30.0
LAST_WORDS: Final = 20  # lines of each node's log


def run(plan: Plan, folder: Path | None = None) -> Result:
    """Homes and logs are in `folder`, if given, and stay there.

    Whatever happens is in the answer. Raises Fault `no-namespaces`.
    """
    if folder is not None:
        return _run(plan, folder)
    with tempfile.TemporaryDirectory(prefix="simulation-") as temporary:
        return _run(plan, Path(temporary))


def _run(plan: Plan, folder: Path) -> Result:
    scenario = PROCESS_SCENARIOS[plan.scenario]
    begun = time.perf_counter()
    sim = finding = None
    with ProcessStage.opened(folder, plan.seed, relay="relay" in scenario.needs) as stage:
        try:
            sim = Sim(stage, plan.nodes, plan.seed)
            _play(scenario, sim)
        except Violation as found:
            lines = [*stage.lines, *_last_words(folder)]
            finding = Finding(found.invariant, found.detail, found.node, stage.now, lines)
        except Exception as error:  # noqa: BLE001 - a process that died, or does not answer
            lines = [*stage.lines, *_last_words(folder)]
            told = "".join(traceback.format_exception(error))
            finding = Finding("no-crash", told, None, stage.now, lines)
        ended = stage.now
    record = None if sim is None else sim.record
    return Result(
        plan,
        "",  # real time does not repeat
        finding,
        0,
        ended,
        0.0,
        time.perf_counter() - begun,
        0 if record is None else len(record.sent),
        0 if record is None else record.refused,
        [] if record is None else record.converged,
        {},
    )


def _play(scenario: Scenario, sim: Sim) -> None:
    """As simulation.run.play, with the patience of somebody who waits. Raises Violation."""
    scenario.play(sim)
    calm_down(sim)
    sim.converge(within=CONVERGES_S)
    sim.until(lambda: all_there(sim), within=LAST_DELIVERY_S)
    for invariant in AT_THE_END:
        invariant(sim)


def _last_words(folder: Path) -> list[str]:
    return [
        f"{log.stem}: {line}"
        for log in sorted(folder.glob("*.log"))
        for line in log.read_text(errors="replace").splitlines()[-LAST_WORDS:]
    ]
