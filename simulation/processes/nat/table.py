"""Who reaches whom, measured: each pair meets for the first time and talks."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from node.api import operations as op
from node.api import shapes as s
from schemas.errors import Fault, Unreachable
from simulation.processes.nat.situations import EXPLAINED, Case, Reached
from simulation.processes.nat.world import Pair, opened
from simulation.processes.node_process import NodeProcess
from simulation.processes.talk import Reader

FIRST_TARGET_S: Final = 2.0  # from `send` to seen
_FIRST_S: Final = 15.0  # then it did not come
_DIRECT_S: Final = 15.0  # how long a direct path is waited for where there should be one
_NONE_S: Final = 4.0  # and where there should be none: several times what any pair needs
_ASK_S: Final = 0.25  # between messages that ask which path there is
_LOOK_S: Final = 0.01


@dataclass(frozen=True, slots=True)
class Measured:
    """Times in seconds from `send`; None: not within the time that was given.

    `first` is the path of the first message, `kind` what the direct path is.
    """

    case: Case
    reached: Reached
    kind: str
    first: str
    first_s: float | None
    direct_s: float | None

    @property
    def as_theory_says(self) -> bool:
        return self.reached is self.case.theory

    @property
    def explained(self) -> str:
        """Why it may differ; empty: it may not."""
        return EXPLAINED.get(self.case.name, "")

    @property
    def in_time(self) -> bool:
        """The first message was, where theory lets any come."""
        if self.first_s is None:
            return self.case.theory is Reached.NOT
        return self.first_s < FIRST_TARGET_S

    @property
    def ok(self) -> bool:
        return (self.as_theory_says and self.in_time) or bool(self.explained)


def measure(cases: Collection[Case], jobs: int = 1, latency_s: float = 0.0) -> Iterator[Measured]:
    """One after the other, or `jobs` at a time, which costs time of each; in the order of cases.

    `latency_s` is from one public network to another, one way.

    Raises StepFailed, Fault, OSError, subprocess.CalledProcessError.
    """
    with (
        tempfile.TemporaryDirectory(prefix="nat-table-") as folder,
        opened(cases, Path(folder), latency_s) as pairs,
        ThreadPoolExecutor(jobs) as pool,
    ):
        try:
            yield from pool.map(_meet, cases, [pairs[case] for case in cases])
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _meet(case: Case, pair: Pair) -> Measured:
    """They exchange cards, and one writes to the other at once."""
    one, other = pair
    one.knows(other)
    other.knows(one)
    begun = time.monotonic()
    deadline = begun + (_NONE_S if case.theory is Reached.NOT else _FIRST_S)
    group = _send(one, other, deadline)
    first = _next_line(Reader(other, "first", group), deadline) if group else None
    first_s = None if first is None else time.monotonic() - begun
    direct_s = None
    if group and first is not None:
        patience = _DIRECT_S if case.theory is Reached.DIRECT else _NONE_S
        direct_s = _until_direct(pair, group, begun, time.monotonic() + patience)
    if direct_s is not None:
        reached = Reached.DIRECT
    else:
        reached = Reached.NOT if first is None else Reached.RELAY
    return Measured(
        case,
        reached,
        _kind(one, other) if reached is Reached.DIRECT else "",
        "" if first is None else first.path,
        first_s,
        direct_s,
    )


def _send(one: NodeProcess, other: NodeProcess, deadline: float) -> str | None:
    """The group that was made for it; whoever is refused tries again, until the deadline.

    Raises Fault.
    """
    while time.monotonic() < deadline:
        try:
            return one.call(op.SEND, s.Send("hello", person=other.identity)).group
        except Unreachable:
            time.sleep(_ASK_S)
    return None


def _next_line(reader: Reader, deadline: float) -> s.Message | None:
    """What is written out next. Raises Fault; not that there is no such group yet."""
    known = len(reader.lines)
    while time.monotonic() < deadline:
        try:
            reader.read()
        except Fault as fault:
            if fault.code != "unknown-group":
                raise
        if len(reader.lines) > known:
            return reader.lines[-1]
        time.sleep(_LOOK_S)
    return None


def _until_direct(pair: Pair, group: str, begun: float, deadline: float) -> float | None:
    """Seconds from `begun` until a message went directly each way; None: not by the deadline."""
    direct = {}
    readers = {node.name: Reader(node, "direct", group) for node in pair}
    while time.monotonic() < deadline:
        for writer, reader in (pair, pair[::-1]):
            writer.call(op.SEND, s.Send("by which path?", group))
            line = _next_line(readers[reader.name], min(deadline, time.monotonic() + _ASK_S))
            direct[reader.name] = line is not None and line.path == Reached.DIRECT
        if all(direct.values()):
            return time.monotonic() - begun
        time.sleep(_ASK_S)
    return None


def _kind(one: NodeProcess, other: NodeProcess) -> str:
    """What the direct path between them is, as the first one's user is told."""
    for peer in one.call(op.PEERS, s.Nothing()):
        if peer.device == other.device and peer.connected:
            return peer.kind or ""
    return ""
