"""Every scenario that a seed takes a second or two for, with one seed; many seeds run in CI."""

from __future__ import annotations

import pytest

from simulation.run import Plan, run
from simulation.scenario import SCENARIOS

QUICK = sorted(name for name, found in SCENARIOS.items() if found.quick)


@pytest.mark.parametrize("name", QUICK)
def test_no_invariant_breaks(name: str) -> None:
    result = run(Plan(name, SCENARIOS[name].nodes, 0))
    assert result.finding is None, f"{result.finding.invariant}: {result.finding.detail}"
    assert result.messages or result.events["members"], "or nothing was put to the test"
