"""`stats`: rates, refusals by reason, times of calls from the histogram, mailboxes that fill up."""

from __future__ import annotations

import fcntl
import io
import json
import os
import re
import select
import signal
import struct
import subprocess
import termios
import threading
import time
from collections.abc import Mapping
from contextlib import closing
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from rich.console import Console

from relay.config import load_config
from relay.stats import look
from relay.stats.look import Look, quantile
from relay.stats.table import table
from relay.store.processes import Process
from relay.store.sqlite.database import MIGRATIONS
from schemas.addresses import Address, RelayAddress
from storage.sqlite import migrate, open_database
from tests.docs.pages import DOCS
from tests.relay.process import RelayProcess, clean_environment, relay_command, run_relay
from tests.relay.support import DAY, client_of, new_device, parcel

INF = float("inf")
DEVICE = new_device().public


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


HELD = dict.fromkeys(
    ("mailboxes", "strangers", "parcels", "bytes", "blobs", "blob_bytes", "directory_bytes",
     "accounts", "mailboxes_near_quota"),
    0.0,
)  # fmt: skip
FILE = {"file_bytes": 5 * 1024**2, "wal_bytes": 4096}
LIMITS = dict.fromkeys(look.LIMITS, 16 * 1024**3)
WELL: dict[str, str | float] = {
    "status": "ok", "reason": "", "version": "1.2.3", "uptime_s": 3 * 86400 + 4 * 3600
}  # fmt: skip


def screen(now: Look, before: Look | None = None, seconds: float = 2.0) -> list[str]:
    """The table on a terminal of 24 lines by 80 columns."""
    out = io.StringIO()
    Console(file=out, width=80, height=24).print(table(now, before, seconds))
    lines = out.getvalue().splitlines()
    assert len(lines) < 24, "the prompt has a line, too"
    assert max(map(len, lines)) <= 80
    return lines


def named(lines: list[str]) -> dict[str, str]:
    return {line[:11].strip(): line[11:] for line in lines}


def test_the_table_shows_what_happened_since_the_last_look() -> None:
    commits = {"commit_sync_seconds_sum": 1.0, "commit_sync_seconds_count": 1000}
    later = {"commit_sync_seconds_sum": 1.5, "commit_sync_seconds_count": 1100}
    before = Look(
        HELD | FILE | commits | {"parcels_total.accepted": 5, "refused_total.busy": 900},
        {"peek": {0.1: 1, INF: 1}, "batchEnqueue": {0.1: 100, 1: 100, INF: 100}},
        LIMITS,
        health=WELL,
    )
    now = Look(
        HELD | FILE | later | {"parcels_total.accepted": 9, "refused_total.busy": 900}
        | {"parcels": 1234, "bytes": 4 * 1024**3, "refused_total.mailbox-full": 8},
        {"peek": {0.1: 1, INF: 1}, "batchEnqueue": {0.1: 100, 1: 120, INF: 120}},
        LIMITS,
        health=WELL,
    )  # fmt: skip
    rows = named(screen(now, before))
    assert rows["health"] == "ok, up 3 d 4 h, version 1.2.3"
    assert rows["parcels"] == "1,234, 4 GiB of 16 GiB (25%)"
    assert rows["in"] == "9 parcels (+2/s)"
    assert rows["calls"] == "121 (+10/s)"
    assert rows["enqueue"] == "p50 550.0 ms, p99 991.0 ms", "the slow ones, not those before"
    assert ", 5.0 ms of fsync;" in rows["commit"], "of the last hundred"
    assert rows["refused"] == "mailbox-full 8 (+4/s), busy 900", "what grows is in front"
    assert rows["database"] == "5 MiB, log 4 KiB"
    again = named(screen(now, now))
    assert again["enqueue"] == "p50 60.0 ms, p99 946.0 ms", "since the start, when nothing is new"
    assert named(screen(before, now))["in"] == "5 parcels", "the relay began anew"


def test_all_of_a_large_relay_is_on_one_screen() -> None:
    many = {
        f"refused_total.a-reason-with-a-long-name-{number}": 10.0**number for number in range(30)
    }
    counters = dict.fromkeys(("connections", "subscriptions"), 10.0**12)
    address = RelayAddress(Address("a-relay-with-quite-a-long-name.example", 7000), DEVICE)
    processes = tuple(
        Process(Address(f"2001:db8::1234:{n}", 7000), bytes(16), "1.2.3", 0, 1.0, n == 7)
        for n in range(8)
    )
    held = dict.fromkeys(HELD, 10.0**15) | {"database_bytes": 10.0**15}
    unwell = WELL | {"status": "degraded", "reason": "housekeeping-fails"}
    now = Look(
        held | counters | many, {"enqueue": {0.1: 10**9, INF: 10**9}}, LIMITS, address,
        unwell, processes,
    )  # fmt: skip
    first, second, *rest = screen(now, Look(held))
    assert first + second == f"a-relay-with-quite-a-long-name.example:7000#{DEVICE}"
    rows = named(rest)
    assert rows["health"].startswith("degraded: housekeeping-fails, up")
    assert rows["processes"].startswith("7 alive: [2001:db8::1234:0]:7000, ")
    assert rows["refused"].startswith("a-reason-with-a-long-name-29 ")


@pytest.mark.parametrize("metrics", [True, False])
def test_a_terminal_of_24_lines_shows_it_all(tmp_path: Path, metrics: bool) -> None:
    """And it stays until Ctrl-C, which is no failure."""
    with RelayProcess(tmp_path, "--metrics", "127.0.0.1:0") as relay:
        where = ("--metrics", relay.ready["metrics"]) if metrics else ()
        command = relay_command("stats", "--data-dir", str(tmp_path), "--every", "0.2", *where)
        ours, theirs = os.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        environment = clean_environment(TERM="xterm")
        environment.pop("COLUMNS", None)
        environment.pop("LINES", None)
        first, drawn = relay.ready["address"], ""
        stats = subprocess.Popen(
            command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment
        )
        try:
            while drawn.count(first) < 4:  # each time over the last
                ready, _, _ = select.select([ours], [], [], 20)
                assert ready, drawn
                drawn += os.read(ours, 65536).decode()
            stats.send_signal(signal.SIGINT)
            assert stats.wait(20) == 0
        finally:
            stats.kill()
            stats.wait()
            os.close(ours)
            os.close(theirs)
    assert f"{first}\r\n" in drawn, "in one piece"
    assert "health     ok, up " in drawn or not metrics
    assert ("refused    " if metrics else "database   ") in drawn, "the last line"
    assert "..." not in drawn, "what rich draws for lines that have no room"


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
    assert "refused    mailbox-full 1" in people
    page = (DOCS / "operations" / "relay.md").read_text().partition("| field | says |")[2]
    names = re.findall(r"`([a-z_.]+)`", " ".join(re.findall(r"^\| (.*?) \| ", page, re.M)[:11]))
    assert len(names) > 20
    assert set(names) - set(told) == {"database_bytes"}, "that is of PostgreSQL"
    assert told["address"] == str(relay.address)
    assert (told["status"], told["reason"], told["processes"]) == ("ok", "", [])
    assert told["uptime_s"] > 0
    assert told["limit.total_bytes"] == 16 * 1024**3
    assert 0 < told["commit_sync_ms"] < 10_000
    assert told["accounts"] == 0


def test_a_relay_that_does_not_answer_is_said(tmp_path: Path) -> None:
    with RelayProcess(tmp_path):
        nobody = ("stats", "--data-dir", str(tmp_path), "--metrics", "127.0.0.1:9")
        shown = run_relay(*nobody)
        assert "No relay answers at 127.0.0.1:9" in shown.err
        assert "mailboxes" in shown.out
        assert json.loads(run_relay(*nobody, "--json").out)["metrics_answered"] is False


def looked_at(folder: Path, pages: Mapping[str, tuple[int, bytes]]) -> Look:
    """With an empty store, and these pages where the relay is asked."""

    class Pages(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, page = pages[self.path]
            self.send_response(status)
            self.end_headers()
            self.wfile.write(page)

        def log_message(self, *_: object) -> None:
            pass

    with closing(open_database(folder / "relay.db")) as made:
        migrate(made, MIGRATIONS)
    with HTTPServer(("127.0.0.1", 0), Pages) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        flags = {"data_dir": folder, "metrics": f"127.0.0.1:{server.server_port}"}
        try:
            return look.look(load_config(flags, {}, None))
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize("status", [200, 404])
@pytest.mark.parametrize("page", [b"<html>", b"{}", b'{"status": 1}', b"a_metric 1\n", b"\xff"])
def test_somebody_else_at_that_port_is_no_relay(tmp_path: Path, status: int, page: bytes) -> None:
    found = looked_at(tmp_path, dict.fromkeys(("/metrics", "/health"), (status, page)))
    assert not found.answered
    assert named(screen(found))["health"].startswith("nobody answers")


def test_why_a_relay_is_not_well_is_shown(tmp_path: Path) -> None:
    unwell = json.dumps(WELL | {"status": "unhealthy", "reason": "store-unavailable"}).encode()
    pages = {"/metrics": (200, b"quicnprotochat_connections 3\n"), "/health": (503, unwell)}
    rows = named(screen(looked_at(tmp_path, pages)))
    assert rows["health"] == "unhealthy: store-unavailable, up 3 d 4 h, version 1.2.3"
    assert rows["here"] == "3 connected, 0 subscribed"
