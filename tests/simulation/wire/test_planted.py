"""Bugs planted below the engine, where only this tier looks: each is found.

Many others are not: who asks again after a while hides a lost acknowledgement, a forgotten link or
a refusal that was too strict. What they cost is time, which no invariant counts.
"""

from __future__ import annotations

import pytest

from node.delivery.courier import Couriers
from node.delivery.turns import Turns
from node.engine.groups.convergence import Convergence
from node.engine_thread import EngineThread
from simulation.run import WIRE, Plan, run
from simulation.world.means import REAL


def finding(scenario: str, nodes: int, seed: int) -> str | None:
    result = run(Plan(scenario, nodes, seed, REAL, WIRE))
    return None if result.finding is None else result.finding.invariant


def test_couriers_that_do_not_hear_of_new_parcels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Couriers, "wake", lambda self, devices: None)
    assert finding("quiet-group", 3, 0) == "everybody-joins"


def test_couriers_that_keep_their_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Turns, "_pass_on", lambda self: None)
    assert finding("quiet-group", 4, 0) is not None


def test_an_engine_that_is_not_woken_when_it_asked_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(EngineThread, "_arm", lambda self, wake_at: None)
    assert finding("two-members", 2, 0) == "one-epoch"


def test_a_commit_that_overtook_its_parent_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    look_at = Convergence.look_at

    def forks_only(self: Convergence, group: object, **_: object) -> None:
        look_at(self, group, forks_only=True)  # type: ignore[arg-type]

    monkeypatch.setattr(Convergence, "look_at", forks_only)
    # Keys are real here, and with them who wins: two of three runs go wrong.
    assert any(finding("two-at-once", 5, 1) == "one-epoch" for _ in range(12))
