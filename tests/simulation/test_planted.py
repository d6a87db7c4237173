"""Every planted bug is found, and the program without it is not accused."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from simulation.main import main
from simulation.planted.bug import Change
from simulation.planted.catalogue import BUGS
from simulation.planted.hook import plant
from simulation.planted.hunt import hunt, plan_of
from simulation.run import Plan, run

ROOT = Path(__file__).parents[2]
PLANS = list(dict.fromkeys(map(plan_of, BUGS.values())))


@pytest.mark.parametrize("name", BUGS)
def test_it_is_found(name: str) -> None:
    (verdict,) = hunt([BUGS[name]], 1)
    assert verdict.found, verdict.detail
    assert verdict.invariant in BUGS[name].found_by, verdict.detail


@pytest.mark.parametrize(
    "plan", PLANS, ids=lambda plan: f"{plan.scenario}-{plan.nodes}-{plan.seed}-{plan.tier}"
)
def test_the_program_as_it_is_is_not_accused(plan: Plan) -> None:
    finding = run(plan).finding
    assert finding is None, f"{finding.invariant}: {finding.detail}"


def test_there_are_enough_of_them_everywhere() -> None:
    assert len(BUGS) >= 20
    assert {bug.area for bug in BUGS.values()} >= {
        "fork choice", "convergence", "repair", "store", "outbox", "arrivals", "receipts",
        "journal", "membership rules", "clock", "delivery",
    }  # fmt: skip


def test_the_command_tells_which_and_refuses_others() -> None:
    runner = CliRunner()
    name = next(iter(BUGS))
    done = runner.invoke(main, ["planted", name, "--jobs", "1", "--json"])
    assert done.exit_code == 0, done.output
    (told,) = json.loads(done.stdout)
    assert told["bug"] == name
    assert told["found"] is True
    assert runner.invoke(main, ["planted", "no-such-bug"]).exit_code == 2


def test_a_source_that_moved_on_is_told() -> None:
    with pytest.raises(LookupError, match="has 0 times"):
        Change("node.engine.core", "no such text", "").apply("some source")


def test_what_is_imported_already_is_not_broken_any_more() -> None:
    with pytest.raises(RuntimeError, match="already imported"):
        plant([Change("simulation.run", "", "")])


def test_a_module_is_broken_in_its_own_process_alone() -> None:
    program = (
        "from simulation.planted.bug import Change\n"
        "from simulation.planted.hook import plant\n"
        "plant([Change('node.engine.early', 'NoRoom(Exception)', 'NoRoom(ValueError)')])\n"
        "from node.engine.early import NoRoom\n"
        "print(NoRoom.__mro__[1].__name__)\n"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "ValueError"
    from node.engine.early import NoRoom

    assert NoRoom.__mro__[1] is Exception
