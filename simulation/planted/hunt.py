"""Plays the runs of planted bugs, and the same runs of the program as it is."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import simulation
from simulation.many import run_all
from simulation.planted.bug import Bug
from simulation.run import WORLD, Plan, Result
from simulation.world.means import MODEL, REAL

ENGINE_FELL = "no-crash"  # a rule is not found broken by an engine that cannot run at all
RUN_S = 120.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """`invariant` is None when nothing noticed; then `detail` says what went wrong, if anything."""

    bug: Bug
    invariant: str | None
    detail: str
    at_s: float | None  # virtual seconds

    @property
    def found(self) -> bool:
        return self.invariant is not None and self.invariant != ENGINE_FELL


def hunt(bugs: Sequence[Bug], jobs: int) -> Iterator[Verdict]:
    """Each in a process of its own: a module is broken when it is imported. In their order."""
    with ThreadPoolExecutor(jobs) as pool:
        yield from pool.map(_play, bugs)


def unbroken(bugs: Iterable[Bug], jobs: int) -> list[Result]:
    """The runs of these bugs without them, each once; none may have a finding."""
    return list(run_all(list(dict.fromkeys(map(plan_of, bugs))), jobs))


def plan_of(bug: Bug) -> Plan:
    mls = MODEL if bug.tier == WORLD else REAL
    return Plan(bug.scenario, bug.nodes, bug.seed, mls, bug.tier)


def _play(bug: Bug) -> Verdict:
    command = [sys.executable, "-m", "simulation.planted.worker", bug.name]
    # Our own sources, wherever this process was started.
    source = Path(simulation.__file__).parents[1]
    try:
        done = subprocess.run(  # noqa: S603 - this interpreter, and a name of our own list
            command, cwd=source, capture_output=True, text=True, timeout=RUN_S
        )
    except subprocess.TimeoutExpired:
        return Verdict(bug, None, f"no end within {RUN_S:.0f} s", None)
    if done.returncode:
        return Verdict(bug, None, done.stderr.strip().splitlines()[-1], None)
    told = json.loads(done.stdout)
    if told is None:
        return Verdict(bug, None, "", None)
    return Verdict(bug, told["invariant"], told["detail"], told["at_s"])
