"""What a run amounts to."""

from __future__ import annotations

import math

import pytest

from simulation.dht.figures import Lookup, Result, Tables, Traffic, percentiles
from simulation.dht.network import MAINTENANCE
from simulation.dht.plan import Plan


def lookup(outcome: str, author_online_s: float = 100.0) -> Lookup:
    return Lookup(0.0, "reader", "author", author_online_s, outcome, 2, 12, 0.4, 0.6)


def result(*lookups: Lookup) -> Result:
    plan = Plan(100, 0, measured_s=1_800.0)
    traffic = {MAINTENANCE: Traffic(5_000, 10_000)}
    return Result(plan, "", None, list(lookups), traffic, Tables(1, 1, 0), 0, 0, 0, 0.0, 0.0)


def test_percentiles_are_of_what_was_measured() -> None:
    assert percentiles([*range(1, 101)]) == (50, 99, 100)
    assert percentiles([7.0]) == (7.0, 7.0, 7.0)
    assert all(math.isnan(value) for value in percentiles([]))


def test_only_the_newest_record_is_a_success() -> None:
    found = result(*[lookup("found")] * 98, lookup("stale"), lookup("nothing"))
    assert found.success == pytest.approx(0.98)
    assert not found.met
    assert result(*[lookup("found")] * 99, lookup("forged")).met


def test_a_run_without_lookups_meets_no_target() -> None:
    assert not result().met
    assert result().as_json()["success"] is None


def test_authors_are_told_apart_by_how_long_they_are_online() -> None:
    told = result(lookup("found", 10.0), lookup("stale", 400.0), lookup("found", 500.0)).as_json()
    assert told["success_by_author_online"] == {
        "under 5 min": 1.0,
        "5 to 30 min": 0.5,
        "over 30 min": None,
    }


def test_traffic_is_by_node_and_hour() -> None:
    assert result().per_node_and_hour(MAINTENANCE) == (100.0, 200.0)
