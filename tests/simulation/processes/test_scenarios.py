"""Real nodes in network namespaces: what users see after partitions, sleep, and a bad relay.

Each takes real seconds: links have to be missed, and dialled again.
"""

from __future__ import annotations

import pytest

from simulation.main import main
from simulation.processes.network import reason_against
from simulation.processes.scenarios import PROCESS_SCENARIOS
from simulation.run import PROCESSES, Plan, run


@pytest.mark.parametrize("name", PROCESS_SCENARIOS)
def test_nothing_is_lost_and_all_are_one_group_again(name: str) -> None:
    if reason := reason_against():
        pytest.skip(reason)
    result = run(Plan(name, PROCESS_SCENARIOS[name].nodes, seed=1, tier=PROCESSES))
    finding = result.finding
    assert finding is None, "\n".join([finding.invariant, finding.detail, *finding.lines])
    assert result.messages > 0
    assert result.refused == 0


def test_without_root_it_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(SystemExit) as ended:
        main(["run", "laptop-asleep", "--tier", "processes"])
    assert ended.value.code == 2
    assert "sudo" in capsys.readouterr().err


def test_its_scenarios_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["list", "--tier", "processes"])
    listed = capsys.readouterr().out
    assert all(name in listed for name in PROCESS_SCENARIOS)
