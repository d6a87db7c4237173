"""Who reaches whom, with real nodes in real networks: as theory says, or the table says why not.

It takes most of a minute: thirty nodes start, and those that theory keeps apart must be seen not to
meet.
"""

from __future__ import annotations

import pytest

from simulation.processes.nat.internet import reason_against
from simulation.processes.nat.situations import CASES, Case, Reached
from simulation.processes.nat.table import Measured, measure

AT_ONCE = 8


def test_everybody_is_reached_and_directly_wherever_that_can_be() -> None:
    if reason := reason_against():
        pytest.skip(reason)
    rows = list(measure(CASES, AT_ONCE))
    assert [row.case for row in rows] == list(CASES)
    assert [row for row in rows if not (row.as_theory_says or row.explained)] == []
    assert [row for row in rows if row.first_s is None and row.reached is not Reached.NOT] == []


def measured(reached: Reached, first_s: float | None) -> Measured:
    return Measured(Case("public", "blocked"), reached, "", "relay", first_s, None)


def test_a_difference_is_not_all_right() -> None:
    assert measured(Reached.RELAY, 0.1).ok
    assert not measured(Reached.DIRECT, 0.1).ok
    assert not measured(Reached.NOT, None).ok


def test_nor_is_a_first_message_that_is_late() -> None:
    assert not measured(Reached.RELAY, 2.5).ok
