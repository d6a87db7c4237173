"""Scenarios with real nodes, real MLS and real QUIC: every invariant holds."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from simulation.main import main
from simulation.run import TIERS, WIRE, Finding, Plan, run
from simulation.scenario import SCENARIOS
from simulation.world.means import REAL


def told(finding: Finding) -> str:
    return "\n".join([f"{finding.invariant}: {finding.detail}", *finding.lines[-40:]])


@pytest.mark.parametrize(
    ("scenario", "nodes", "seed"),
    [
        ("quiet-group", 4, 0),
        ("two-members", 2, 0),
        ("two-members", 2, 1),
        ("two-at-once", 5, 0),
        ("two-at-once", 5, 1),  # a commit overtakes its parent
        ("two-at-once", 5, 2),
        ("commit-storm", 6, 0),
        ("reader-only", 4, 0),
        ("withholding-relay", 4, 0),
        ("joins-during-a-fork", 4, 0),
        ("partition-and-heal", 5, 0),
        ("crash-loop", 2, 0),
    ],
)
def test_invariants_hold(scenario: str, nodes: int, seed: int) -> None:
    result = run(Plan(scenario, nodes, seed, REAL, WIRE))
    assert result.finding is None, told(result.finding)
    assert result.messages > 0
    assert result.engine_events > 10 * nodes
    assert all(result.timeline[f"n{number:02}"] for number in range(nodes))


def test_the_command_plays_a_scenario_on_this_tier() -> None:
    args = ["run", "two-members", "--tier", "wire", "--seed", "3", "--jobs", "1", "--json"]
    ended = CliRunner().invoke(main, args)
    assert ended.exit_code == 0, ended.output
    (told_run,) = json.loads(ended.stdout)["runs"]
    assert (told_run["tier"], told_run["mls"], told_run["violation"]) == ("wire", "real", None)


def test_what_the_tier_has_not_is_refused_before_it_starts() -> None:
    needing = next(s for s in SCENARIOS.values() if s.needs - TIERS[WIRE])
    ended = CliRunner().invoke(main, ["run", needing.name, "--tier", "wire"])
    assert ended.exit_code == 2
    assert "wire has not" in ended.output
