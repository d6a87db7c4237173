"""Seeds that found a violation once: each led to a mend, and holds since."""

from __future__ import annotations

import pytest

from simulation.run import Plan, run

FOUND = (
    ("anything", 6, 35),
    ("anything", 6, 454),
    ("anything", 6, 647),
    ("asleep-ten-days", 8, 0),
    ("heals-at-once", 4, 0),
    ("joins-during-a-fork", 4, 53),
    ("joins-during-a-fork", 4, 58),
    ("joins-during-a-fork", 8, 0),
    ("joins-during-a-fork", 8, 2),
    ("joins-during-a-fork", 8, 34),
    ("shown-to-one", 3, 2),
)


@pytest.mark.parametrize("scenario, nodes, seed", FOUND)
def test_what_was_found_once_holds(scenario: str, nodes: int, seed: int) -> None:
    result = run(Plan(scenario, nodes, seed))
    assert result.finding is None, result.finding
