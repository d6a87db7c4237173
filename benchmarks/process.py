"""What a node costs a machine: starting, being there, being asked for help.

The reference is what Python itself costs: `python -c pass`, or a bare asyncio UDP program.
"""

from __future__ import annotations

import json
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.report import Row
from node.demo.processes import NODE, environment, start_relay

_BARE = """
import asyncio, sys
async def main():
    loop = asyncio.get_running_loop()
    await loop.create_datagram_endpoint(asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0))
    print('{"event": "ready"}', flush=True)
    await asyncio.Event().wait()
asyncio.run(main())
"""
_SETTLE_S = 5.0  # the relay is met, records are published, mDNS has announced


def rows(quick: bool) -> list[Row]:
    """Start to ready, `--help`, idle memory and idle CPU."""
    times, idle_s = (5, 20.0) if quick else (15, 600.0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        home = folder / "home"
        subprocess.run(
            [*NODE, "--home", str(home), "init", "--name", "Idle"],
            env=environment(),
            check=True,
            capture_output=True,
        )
        run = [*NODE, "--home", str(home), "--json", "run", "--listen", "127.0.0.1:0"]
        bare = [sys.executable, "-c", _BARE]
        starts = [(_ready_s([*run, "--no-mdns"]), _ready_s(bare)) for _ in range(times)]
        helps = [
            (_run_s([*NODE, "--help"]), _run_s([sys.executable, "-c", "pass"]))
            for _ in range(times)
        ]
        relay = start_relay(folder)
        try:
            env = {**environment(), "QUICNPROTOCHAT_MDNS_INTERFACES": "127.0.0.1"}
            node = [*run, "--mdns", "--relay", str(relay.ready["address"])]
            with _running(node, env) as ours, _running(bare, env) as theirs:
                time.sleep(_SETTLE_S)
                before = cpu_s(ours), cpu_s(theirs), time.monotonic()
                time.sleep(idle_s)
                spent = time.monotonic() - before[2]
                cpu = 100 * (cpu_s(ours) - before[0]) / spent
                bare_cpu = 100 * (cpu_s(theirs) - before[1]) / spent
                memory, bare_memory = pss_mib(ours), pss_mib(theirs)
        finally:
            relay.stop()
    median = statistics.median
    limit: dict[str, Any] = {"of": "value", "at_least": False}
    return [
        Row(
            "start to ready",
            median(ours for ours, _ in starts),
            "s",
            median(theirs for _, theirs in starts),
            "asyncio UDP program",
            target=0.8,
            **limit,
        ),
        Row(
            "--help",
            median(ours for ours, _ in helps),
            "s",
            median(theirs for _, theirs in helps),
            "python -c pass",
            target=0.25,
            **limit,
        ),
        Row(
            "idle memory (PSS)",
            memory,
            "MiB",
            bare_memory,
            "asyncio UDP program",
            target=80,
            note="a relay, mDNS on loopback",
            **limit,
        ),
        Row(
            "idle CPU of a core",
            cpu,
            "%",
            bare_cpu or None,  # it may not have woken at all
            "asyncio UDP program",
            target=0.3,
            note=f"over {idle_s:.0f} s; a relay, mDNS on loopback",
            **limit,
        ),
    ]


def _run_s(command: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, env=environment(), check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def _ready_s(command: list[str]) -> float:
    began = time.perf_counter()
    with _running(command, environment()):
        return time.perf_counter() - began


@contextmanager
def _running(command: list[str], env: dict[str, str]) -> Iterator[int]:
    """The process id of a program that has said that it is ready."""
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert json.loads(line)["event"] == "ready", line
            yield process.pid
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate()


def cpu_s(pid: int) -> float:
    """Of all threads. schedstat has nanoseconds, where `stat` has hundredths of a second."""
    threads = Path(f"/proc/{pid}/task").iterdir()
    spent = ((each / "schedstat").read_text() for each in threads)
    return sum(int(text.split()[0]) for text in spent) / 1e9


def pss_mib(pid: int) -> float:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    raise ValueError("smaps_rollup has no Pss")
