"""Lookups in the DHT on real sockets, beside OpenDHT (`dhtnode`) with as many nodes.

Each DHT has all its nodes in one process and a network namespace of its own, so that the
namespace's counters are its traffic; both are on loopback, and take turns on one machine. A lookup
is of a value of 500 bytes that another node has put; it ends when every way was followed to its
end. Every node makes one in each round.

What differs by design: OpenDHT speaks UDP without any handshake, and by default nobody proves who
they are. Ours dials each node that it asks over QUIC, pins its key (post-quantum key exchange and
certificates of both sides included), under a throw-away key; a value is signed. A `warm` lookup
has these connections from a moment ago.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from benchmarks.dht_round import Round
from benchmarks.report import Row

ROOT: Final = Path(__file__).parents[1]
NODES: Final = 50
_SYSTEM_PYTHON: Final = "/usr/bin/python3"  # the one that Debian's python3-opendht belongs to
_ENTER: Final = ("unshare", "-rn", "sh", "-c", 'ip link set lo up && exec "$@"', "sh")


class _Child:
    """A DHT of one kind; each call is a round."""

    def __init__(self, stack: ExitStack, *command: str) -> None:
        self._process = stack.enter_context(
            subprocess.Popen(
                [*_ENTER, *command],
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        )
        stack.callback(self._end)

    def _end(self) -> None:
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            self._process.wait(15)
        except subprocess.TimeoutExpired:
            self._process.kill()

    def ready(self) -> None:
        self._line()

    def round(self) -> dict[str, Round]:
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return {kind: Round(**found) for kind, found in self._line().items()}

    def _line(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("a child ended early; what it said is above")
        return dict(json.loads(line))


@dataclass
class _Figures:
    """Of all rounds of one kind."""

    rounds: list[Round] = field(default_factory=list)

    def quantile(self, times: str, share: float) -> float:
        found = sorted(time for each in self.rounds for time in getattr(each, times))
        return float(found[min(len(found) - 1, int(share * len(found)))])

    @property
    def missed(self) -> int:
        return sum(each.missed for each in self.rounds)

    def per_lookup(self, what: str) -> float:
        lookups = sum(len(each.done_ms) for each in self.rounds)
        return float(sum(getattr(each, what) for each in self.rounds)) / lookups


def rows(quick: bool) -> list[Row]:
    """Without namespaces: one row that says so. Without OpenDHT: ours alone, with the reason."""
    if missing := _no_namespaces():
        return [Row("DHT on real sockets", 0, "", note=f"not measured: {missing}")]
    nodes, rounds = (20, 1) if quick else (NODES, 5)
    without = _no_opendht()
    found = {"cold": _Figures(), "warm": _Figures(), "lookup": _Figures()}
    with ExitStack() as stack:
        children = [_Child(stack, sys.executable, "-m", "benchmarks.dht_nodes", str(nodes))]
        if not without:
            script = str(ROOT / "benchmarks" / "opendht_nodes.py")
            children.append(_Child(stack, _SYSTEM_PYTHON, script, str(nodes)))
        for child in children:
            child.ready()
        for _ in range(rounds):
            for child in children:
                for kind, result in child.round().items():
                    found[kind].rounds.append(result)
    theirs = found["lookup"] if not without else None
    note = f"{nodes} nodes, {rounds * nodes} lookups" + (f"; {without}" if without else "")
    return [row for kind in ("cold", "warm") for row in _compared(kind, found[kind], theirs, note)]


def _compared(kind: str, ours: _Figures, theirs: _Figures | None, note: str) -> list[Row]:
    note += f"; not found: {ours.missed}" + (f", by OpenDHT {theirs.missed}" if theirs else "")

    def row(what: str, unit: str, figure: Callable[[_Figures], float]) -> Row:
        beside = None if theirs is None else figure(theirs)
        reference = "" if beside is None else "OpenDHT, no handshakes"
        return Row(f"{kind} lookup, {what}", figure(ours), unit, beside, reference, note=note)

    return [
        row("first value, p50", "ms", lambda each: each.quantile("first_ms", 0.5)),
        row("first value, p99", "ms", lambda each: each.quantile("first_ms", 0.99)),
        row("ended, p50", "ms", lambda each: each.quantile("done_ms", 0.5)),
        row("ended, p99", "ms", lambda each: each.quantile("done_ms", 0.99)),
        row("both ways", "B", lambda each: each.per_lookup("bytes")),
        row("both ways", "datagrams", lambda each: each.per_lookup("datagrams")),
        row("CPU of all nodes", "ms", lambda each: 1000 * each.per_lookup("cpu_s")),
    ]


def _no_namespaces() -> str:
    """Why there are none; empty when there are."""
    if shutil.which("unshare") is None or shutil.which("ip") is None:
        return "neither `unshare` nor `ip` may be missing"
    tried = subprocess.run([*_ENTER, "true"], capture_output=True, text=True)
    return "" if tried.returncode == 0 else f"no network namespaces: {tried.stderr.strip()}"


def _no_opendht() -> str:
    """Why it is not measured; empty when it is."""
    try:
        tried = subprocess.run([_SYSTEM_PYTHON, "-c", "import opendht"], capture_output=True)
    except OSError:
        return "no OpenDHT: no Python of the system"
    return "" if tried.returncode == 0 else "no OpenDHT: install Debian's python3-opendht"
