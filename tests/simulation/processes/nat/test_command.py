"""`nat-table`: what it prints and writes, when it refuses, and that nothing stays behind."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from node.demo.processes import StepFailed
from simulation.main import main
from simulation.processes.nat import command
from simulation.processes.nat.internet import reason_against
from simulation.processes.nat.situations import Case, Reached
from simulation.processes.nat.table import Measured

ROWS = [
    Measured(Case("public", "public"), Reached.DIRECT, "public", "direct", 0.05, 0.1),
    Measured(Case("public", "blocked"), Reached.RELAY, "", "relay", 1.5, None),
]
WORSE = Measured(Case("public", "symmetric"), Reached.RELAY, "", "relay", 0.2, None)


def run(monkeypatch: pytest.MonkeyPatch, rows: Sequence[Measured], *words: str) -> int | str | None:
    """The exit code with these rows for what would be measured."""

    def measure(cases: object, jobs: int, latency_s: float) -> Iterator[Measured]:
        yield from rows

    monkeypatch.setattr(command, "measure", measure)
    monkeypatch.setattr(command, "reason_against", lambda: "")
    with pytest.raises(SystemExit) as ended:
        main(["nat-table", *words])
    return ended.value.code


def test_it_prints_a_table(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, ROWS) == 0
    out = capsys.readouterr().out
    assert "public + blocked" in out
    assert "2 of 2 as theory says; the slowest first message took 1.50 s" in out


def test_a_difference_ends_with_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, [*ROWS, WORSE]) == 1
    assert "DIFFERS" in capsys.readouterr().out


def test_json_is_a_line_for_each_pair(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, ROWS, "--json") == 0
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert first["reached"] == "direct"
    assert first["first_s"] == 0.05
    assert second["direct_s"] is None


def test_a_difference_is_an_error_in_json_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, [WORSE], "--json") == 1
    row, error = map(json.loads, capsys.readouterr().out.splitlines())
    assert not row["ok"]
    assert error["error"]["code"] == "differs"


def test_a_node_that_does_not_start_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def measure(*_: object) -> Iterator[Measured]:
        raise StepFailed("public-a's node did not say 'ready'")
        yield

    monkeypatch.setattr(command, "measure", measure)
    monkeypatch.setattr(command, "reason_against", lambda: "")
    with pytest.raises(SystemExit) as ended:
        main(["nat-table"])
    assert ended.value.code == 1
    assert "public-a's node" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["table.md", "table.json"])
def test_a_report_is_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    assert run(monkeypatch, ROWS, "--report", str(file)) == 0
    text = file.read_text()
    if file.suffix == ".json":
        assert [row["other"] for row in json.loads(text)] == ["public", "blocked"]
    else:
        assert "| public + blocked | relay | relay | 1.50 s relay |  |  |" in text


def test_a_situation_that_there_is_not_is_wrong_usage(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, ROWS, "--only", "pubic") == 2
    assert "pubic" in capsys.readouterr().err


def test_without_root_it_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(SystemExit) as ended:
        main(["nat-table"])
    assert ended.value.code == 2
    assert "sudo" in capsys.readouterr().err


def test_without_nft_it_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    if reason := reason_against():
        pytest.skip(reason)
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr("shutil.which", lambda name: None if name == "nft" else name)
    assert reason_against() == "the program `nft` is missing: install nftables"


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL])
def test_nothing_runs_on_when_it_is_ended(tmp_path: Path, end: signal.Signals) -> None:
    if reason := reason_against():
        pytest.skip(reason)
    process = subprocess.Popen(
        [sys.executable, "-m", "simulation.main", "nat-table", "--only", "public"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"TMPDIR": str(tmp_path)},
        start_new_session=True,
    )
    deadline = time.monotonic() + 30
    while len(alive := running(tmp_path)) < 3 and time.monotonic() < deadline:  # relay, two nodes
        time.sleep(0.02)
    assert len(alive) >= 3
    os.killpg(process.pid, end) if end is signal.SIGINT else process.send_signal(end)
    process.wait(20)
    while running(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert running(tmp_path) == []
    if end is signal.SIGINT:
        assert process.returncode == 130
        assert list(tmp_path.iterdir()) == []


def running(folder: Path) -> list[str]:
    """Command lines that name something in this folder."""
    found = []
    for each in Path("/proc").iterdir():
        if re.fullmatch(r"\d+", each.name):
            try:
                words = (each / "cmdline").read_bytes().decode(errors="replace")
            except OSError:
                continue
            if f"{folder}/" in words:
                found.append(words.replace("\0", " "))
    return found
