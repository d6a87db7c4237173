"""`quicnprotochat-simulate`, its replay files and its reports."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from node.engine.outbox import Outbox
from simulation.main import main
from simulation.report import write_report
from simulation.run import Plan, run
from simulation.scenario import SCENARIOS

ROOT = Path(__file__).parents[2]


def simulate(*words: str) -> Result:
    return CliRunner().invoke(main, list(words))


def test_list_names_every_scenario() -> None:
    lines = [json.loads(line) for line in simulate("list", "--json").stdout.splitlines()]
    assert {line["scenario"] for line in lines} == {*SCENARIOS, "dht-churn"}
    assert all(line["summary"] and line["nodes"] >= 2 for line in lines)


def test_one_seed_gives_one_event_log() -> None:
    """In two processes whose sets and dictionaries are in different orders."""
    digests = set()
    for hash_seed in ("1", "2"):
        told = subprocess.run(
            [sys.executable, "-m", "simulation.main", "run", "three-members", "--seed", "4",
             "--json"],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            check=True,
        )  # fmt: skip
        digests.add(json.loads(told.stdout)["runs"][0]["digest"])
    assert len(digests) == 1


def test_another_seed_gives_another_event_log() -> None:
    digests = {run(Plan("two-members", 2, seed)).digest for seed in range(3)}
    assert len(digests) == 3


def test_real_mls_keeps_the_invariants_too() -> None:
    assert run(Plan("two-members", 2, 0, mls="real")).finding is None


def test_seeds_run_in_processes(tmp_path: Path) -> None:
    told = simulate(
        "run", "two-members", "--seeds", "0..4", "--jobs", "2", "--json", "--replays",
        str(tmp_path),
    )  # fmt: skip
    assert told.exit_code == 0, told.output
    found = json.loads(told.stdout)
    assert [one["seed"] for one in found["runs"]] == [0, 1, 2, 3]
    assert found["scenarios"][0]["seeds"] == 4


@pytest.fixture
def message_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine that forgets what it was told to send."""
    put = Outbox.put

    def forgetful(outbox: Outbox, kind: str, *args: Any, **more: Any) -> None:
        if kind != "message":
            put(outbox, kind, *args, **more)

    monkeypatch.setattr(Outbox, "put", forgetful)


@pytest.mark.usefixtures("message_loss")
def test_a_violation_is_told_and_can_be_replayed(tmp_path: Path) -> None:
    told = simulate("run", "two-members", "--replays", str(tmp_path), "--json")
    assert told.exit_code == 1
    found = json.loads(told.stdout)
    assert found["error"]["code"] == "invariant-broken"
    violation = found["runs"][0]["violation"]
    assert violation["invariant"] == "nothing-lost"
    assert violation["log"]
    (file,) = tmp_path.iterdir()
    again = simulate("replay", str(file))
    assert again.exit_code == 1
    assert "the same event log" in again.output
    assert "nothing-lost" in again.output


def test_what_is_no_replay_file_is_refused(tmp_path: Path) -> None:
    for content in ("", "{}", "[1]", '{"format": 1, "plan": {"scenario": "x"}}'):
        file = tmp_path / "file.json"
        file.write_text(content)
        told = simulate("replay", str(file), "--json")
        assert told.exit_code == 1
        assert json.loads(told.stdout)["error"]["code"] == "bad-replay"


@pytest.mark.parametrize(
    "words",
    [
        ("run", "no-such"),
        ("run", "two-members", "--seeds", "5..5"),
        ("run", "two-members", "--seeds", "5"),
        ("run", "two-members", "--seed", "1", "--seeds", "0..2"),
        ("run", "three-members", "--nodes", "2"),
        ("run", "two-members", "--report", "/no/such/folder/x.json"),
    ],
)
def test_wrong_usage_is_told(words: tuple[str, ...]) -> None:
    told = simulate(*words, "--json")
    assert told.exit_code == 2
    assert json.loads(told.stdout)["error"]["code"] == "usage"


def test_reports_come_in_three_forms(tmp_path: Path) -> None:
    results = [run(Plan("two-members", 2, 0)), run(Plan("three-members", 3, 0))]
    for name in ("r.json", "r.html", "r.txt"):
        write_report(tmp_path / name, results)
    found = json.loads((tmp_path / "r.json").read_text())
    assert {row["scenario"] for row in found["scenarios"]} == {"two-members", "three-members"}
    assert "two-members" in (tmp_path / "r.txt").read_text()
    page = (tmp_path / "r.html").read_text()
    assert page.count("<svg") == 2
    assert "n00: epoch 1" in page
    assert not re.search(r"(?:src|href|url)\s*[=(]|<script|@import", page), "nothing from outside"
