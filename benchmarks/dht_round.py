"""What a child of benchmarks.dht_real measures and tells; standard library alone, since OpenDHT's
binding belongs to the system's Python."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

VALUE_BYTES = 500  # about what a sealed endpoint record has
_HEADERS = 14 + 20 + 8  # Ethernet as the loopback counts it, IPv4, UDP


@dataclass
class Round:
    """One lookup by each node. `first_ms`: to the first value; `done_ms`: until all ways were
    followed to their end; `bytes` and `datagrams` of these, both ways, without what is below UDP;
    `cpu_s`: of all nodes."""

    first_ms: list[float] = field(default_factory=list)
    done_ms: list[float] = field(default_factory=list)
    bytes: int = 0
    datagrams: int = 0
    cpu_s: float = 0.0
    missed: int = 0  # values that were there and were not found

    @contextmanager
    def lookup(self) -> Iterator[Callable[[], None]]:
        """Measures its block; what it gives is to be called when a value is there."""
        datagrams, size = traffic()
        cpu, began = time.process_time(), time.perf_counter()
        first: list[float] = []
        yield lambda: first.append(time.perf_counter())
        self.done_ms.append((time.perf_counter() - began) * 1000)
        if first:
            self.first_ms.append((first[0] - began) * 1000)
        else:
            self.missed += 1
        self.cpu_s += time.process_time() - cpu
        datagrams_now, size_now = traffic()
        self.datagrams += datagrams_now - datagrams
        self.bytes += size_now - size


def traffic() -> tuple[int, int]:
    """(datagrams, their bytes) that passed this namespace's loopback, which is all of its own."""
    for line in Path("/proc/net/dev").read_text().splitlines():
        name, _, numbers = line.partition(":")
        if name.strip() == "lo":
            size, packets = (int(number) for number in numbers.split()[:2])
            return packets, size - packets * _HEADERS
    raise RuntimeError("no loopback")


def serve(turn: Callable[[], dict[str, Round]]) -> None:
    """Says that it is ready, then a line of JSON (rounds by kind) for each line that comes."""
    print(json.dumps({"ready": True}), flush=True)
    for _ in sys.stdin:
        found = {kind: asdict(result) for kind, result in turn().items()}
        print(json.dumps(found), flush=True)
