"""`dht-churn` on a small scale: it repeats itself, and it sees what a broken DHT does worse."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from discovery.dht import publication
from discovery.dht.limits import DEFAULT_DHT_LIMITS, DhtLimits
from discovery.dht.node import DhtNode
from schemas.ids import DhtId
from schemas.records import EndpointRecord, Signed
from simulation.dht.figures import Result
from simulation.dht.plan import Plan, variants
from simulation.dht.run import run

ROOT = Path(__file__).parents[3]
NODES = 60
MIDNIGHT_S = 86_400.0
PRINT_DIGEST = """
from tests.simulation.dht.test_run import small
print(small(variant=1).digest)
"""


def small(
    variant: int = 0, seed: int = 3, limits: DhtLimits = DEFAULT_DHT_LIMITS, **changes: Any
) -> Result:
    plan = variants(NODES, seed)[variant]
    short = dataclasses.replace(plan, warm_up_s=900.0, measured_s=600.0, lookups=2.0)
    return run(dataclasses.replace(short, **changes), lambda part: None, limits)


@pytest.fixture(scope="module")
def sound() -> Result:
    return small()


@pytest.fixture(scope="module")
def with_malice() -> Result:
    return small(variant=1)


def test_authors_are_found_although_nodes_come_and_go(sound: Result) -> None:
    assert sound.finding is None
    assert sound.met, sound.as_json()
    assert len(sound.lookups) > NODES
    assert sound.leaves > 10, "nobody left, and nothing was tried"


def test_authors_are_found_although_some_lie(with_malice: Result) -> None:
    assert with_malice.finding is None
    assert with_malice.met, with_malice.as_json()
    assert with_malice.tables.malicious > 0, "no liar is in any table, and nothing was tried"


def test_a_seed_repeats_itself_in_another_process(with_malice: Result) -> None:
    """Whose sets and dictionaries are in another order."""
    told = subprocess.run(
        [sys.executable, "-c", PRINT_DIGEST],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": "7"},
        capture_output=True,
        check=True,
        text=True,
    )
    assert told.stdout.strip() == with_malice.digest


def test_another_seed_is_another_run(sound: Result) -> None:
    assert small(seed=4, measured_s=60.0).digest != sound.digest


def test_authors_are_found_around_midnight() -> None:
    """Each day has cells of its own: whoever is published in yesterday's alone is gone."""
    result = small(begins_s=MIDNIGHT_S - 1_200.0)
    assert result.met, result.as_json()


def test_a_progress_that_ends_at_one() -> None:
    parts: list[float] = []
    run(Plan(NODES, 0, warm_up_s=120.0, measured_s=60.0), parts.append)
    assert parts == sorted(parts)
    assert parts[-1] == pytest.approx(1.0)


# --- what it would notice


def test_one_path_fails_more_often_than_disjoint_ones() -> None:
    """A liar on the only path leads it where liars alone are."""
    one = dataclasses.replace(
        DEFAULT_DHT_LIMITS, paths=1, path_width=DEFAULT_DHT_LIMITS.store_width
    )
    failed = {
        limits.paths: 1.0
        - small(1, limits=limits, malicious=0.4, measured_s=300.0, lookups=5.0).success
        for limits in (one, DEFAULT_DHT_LIMITS)
    }
    assert failed[1] > 1.5 * failed[DEFAULT_DHT_LIMITS.paths], failed


def test_values_that_are_not_put_again_are_lost(sound: Result) -> None:
    """Those who keep them leave: nobody finds an author who is online for long."""
    never = dataclasses.replace(DEFAULT_DHT_LIMITS, republish_s=1e9, store_width=2)
    assert small(limits=never, warm_up_s=2_700.0).success < sound.success - 0.1


def test_tables_that_are_not_kept_fill_with_the_dead(
    monkeypatch: pytest.MonkeyPatch, sound: Result
) -> None:
    async def nothing(node: DhtNode) -> None:
        """No newcomer is asked, and nobody whether they live."""

    monkeypatch.setattr(DhtNode, "maintain", nothing)
    assert small(warm_up_s=2_700.0).tables.answering < sound.tables.answering - 0.1


def test_a_reader_that_checks_no_signature_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    """A contact can seal into the cell, and says where the author never was."""

    def unchecked(signed: Signed, *, now: float) -> EndpointRecord:
        return EndpointRecord.decode(signed.payload)

    monkeypatch.setattr(publication, "open_endpoint_record_untrusted", unchecked)
    finding = small(1, measured_s=300.0, malicious=0.3).finding
    assert finding is not None
    assert finding.invariant == "nothing-forged"


def test_a_node_that_ends_by_itself_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(node: DhtNode, key: DhtId, value: Signed) -> int:
        raise ZeroDivisionError

    monkeypatch.setattr(DhtNode, "publish", broken)
    finding = small(measured_s=60.0).finding
    assert finding is not None
    assert finding.invariant == "no-crash"


def test_a_look_up_that_raises_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(node: DhtNode, *how: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(DhtNode, "find", broken)
    result = small(measured_s=60.0)
    assert result.finding is not None
    assert "ZeroDivisionError" in result.finding.detail
    assert not result.met
