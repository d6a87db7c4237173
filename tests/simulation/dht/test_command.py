"""`run dht-churn`: both variants beside their targets, and what it refuses."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from discovery.dht.node import DhtNode
from simulation.dht import command
from simulation.dht.plan import Plan, variants
from simulation.main import main


def simulate(*words: str) -> Result:
    return CliRunner().invoke(main, ["run", "dht-churn", *words])


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs of minutes, not of hours, with a target that is met or not."""

    def shortened(nodes: int, seed: int) -> tuple[Plan, ...]:
        return tuple(
            replace(plan, warm_up_s=300.0, measured_s=120.0, target=0.5)
            for plan in variants(nodes, seed)
        )

    monkeypatch.setattr(command, "variants", shortened)


@pytest.mark.usefixtures("short")
def test_both_variants_are_shown_beside_their_targets(tmp_path: Path) -> None:
    told = simulate("--nodes", "30", "--jobs", "1", "--report", str(tmp_path / "r.json"))
    assert told.exit_code == 0, told.output
    for word in ("without malice", "with malice", "hops", "messages", "seconds", "met"):
        assert word in told.stdout
    written = json.loads((tmp_path / "r.json").read_text())
    assert [one["variant"] for one in written["variants"]] == ["without malice", "with malice"]


@pytest.mark.usefixtures("short")
def test_json_has_the_figures_and_nothing_else_is_printed() -> None:
    told = simulate("--nodes", "30", "--seed", "2", "--jobs", "1", "--json")
    assert told.exit_code == 0, told.output
    found = json.loads(told.stdout)
    for one in found["variants"]:
        assert one["seed"] == 2
        assert one["met"] is True
        assert one["messages_p50"] >= 1
        assert one["seconds_p99"] >= one["seconds_p50"] > 0
        assert one["traffic_per_node_and_hour"]["maintenance"]["bytes"] > 0


@pytest.mark.usefixtures("short")
def test_two_processes_say_the_same_as_one() -> None:
    one, two = (
        json.loads(simulate("--nodes", "30", "--jobs", jobs, "--json").stdout)["variants"]
        for jobs in ("1", "2")
    )
    assert [each["digest"] for each in one] == [each["digest"] for each in two]


def test_a_target_that_is_missed_is_told_and_ends_with_1(monkeypatch: pytest.MonkeyPatch) -> None:
    def beyond_reach(nodes: int, seed: int) -> tuple[Plan, ...]:
        plan, _ = variants(nodes, seed)
        return (replace(plan, warm_up_s=120.0, measured_s=60.0, target=1.01),)

    monkeypatch.setattr(command, "variants", beyond_reach)
    told = simulate("--nodes", "30", "--jobs", "1", "--json")
    assert told.exit_code == 1, told.output
    error = json.loads(told.stdout)["error"]
    assert error["code"] == "target-missed"
    assert "lookup-success" in error["message"]
    assert "MISSED" in simulate("--nodes", "30", "--jobs", "1").stdout


def test_a_broken_invariant_is_told_and_ends_with_1(
    monkeypatch: pytest.MonkeyPatch, short: None
) -> None:
    async def broken(node: DhtNode) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(DhtNode, "maintain", broken)
    told = simulate("--nodes", "30", "--jobs", "1", "--json")
    assert told.exit_code == 1
    found = json.loads(told.stdout)
    assert found["error"]["code"] == "invariant-broken"
    assert found["variants"][0]["violation"]["invariant"] == "no-crash"


@pytest.mark.parametrize(
    "words",
    [
        ("--tier", "wire"),
        ("--mls", "real"),
        ("--rule", "H"),
        ("--nodes", "5"),
        ("--report", "/no/such/folder/x.json"),
    ],
)
def test_what_it_has_not_is_refused(words: tuple[str, ...]) -> None:
    told = simulate(*words, "--json")
    assert told.exit_code == 2
    assert json.loads(told.stdout)["error"]["code"] == "usage"
