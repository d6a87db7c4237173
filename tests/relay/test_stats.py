"""`stats`: rates, refusals by reason, times of calls from the histogram, mailboxes that fill up."""

from __future__ import annotations

import io
import json
import time
from pathlib import Path

import pytest
from rich.console import Console

from relay.stats import Look, quantile, tables
from tests.relay.process import RelayProcess, run_relay
from tests.relay.support import DAY, client_of, new_device, parcel

INF = float("inf")


@pytest.mark.parametrize(
    "buckets, share, expected",
    [
        ({}, 0.5, 0.0),
        ({0.1: 0, INF: 0}, 0.5, 0.0),
        ({0.1: 10, INF: 10}, 0.5, 0.05),
        ({0.1: 50, 0.2: 100, INF: 100}, 0.99, 0.198),
        ({0.1: 50, 0.2: 50, 0.4: 100, INF: 100}, 0.75, 0.3),
        ({0.1: 0, INF: 5}, 0.5, 0.1),  # above the last bound: it is told
    ],
)
def test_a_quantile_is_that_of_prometheus(
    buckets: dict[float, float], share: float, expected: float
) -> None:
    assert quantile(buckets, share) == pytest.approx(expected)


def test_the_table_shows_what_happened_since_the_last_look() -> None:
    before = Look({"parcels": 5, "refused_total.busy": 1}, {"peek": {0.1: 100, 1: 100, INF: 100}})
    now = Look({"parcels": 9, "refused_total.busy": 1}, {"peek": {0.1: 100, 1: 120, INF: 120}})
    shown = io.StringIO()
    Console(file=shown, width=100).print(tables(now, before, 2.0))
    rows = {cells[1]: cells[2:-1] for line in shown.getvalue().splitlines()
            if len(cells := [cell.strip() for cell in line.split("│")]) > 3}  # fmt: skip
    assert rows["parcels"] == ["9", "+2"]
    assert rows["refused_total.busy"] == ["1", ""]
    assert rows["peek"] == ["120", "10", "550.00", "991.00"], "the slow ones, not those before"


async def test_a_running_relay_shows_refusals_times_and_full_mailboxes(
    kj: None, tmp_path: Path
) -> None:
    limit = ("--mailbox-parcels", "2")
    with RelayProcess(tmp_path, "--metrics", "127.0.0.1:0", *limit) as relay:
        async with client_of(relay.address) as alice:
            bob = new_device().public
            for _ in range(3):
                await alice.enqueue(parcel(bob, expires=int(time.time()) + DAY))
        data = ("--data-dir", str(tmp_path), "--metrics", relay.ready["metrics"])
        limited = {"QUICNPROTOCHAT_MAILBOX_PARCELS": "2"}
        told = json.loads(run_relay("stats", *data, "--json", **limited).out)
        people = run_relay("stats", *data, **limited).out
    assert told["mailboxes_near_quota"] == 1
    assert told["refused_total.mailbox-full"] >= 1
    assert 0 < told["call_p50_ms.enqueue"] <= told["call_p99_ms.enqueue"] < 10_000
    assert "enqueue" in people


def test_a_relay_that_does_not_answer_is_said(tmp_path: Path) -> None:
    with RelayProcess(tmp_path):
        nobody = ("stats", "--data-dir", str(tmp_path), "--metrics", "127.0.0.1:9")
        shown = run_relay(*nobody)
        assert "No relay answers at 127.0.0.1:9" in shown.err
        assert "mailboxes" in shown.out
        assert json.loads(run_relay(*nobody, "--json").out)["metrics_answered"] is False
