"""How much memory programs hold over time, and whether that grows."""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from tests.durability.programs import Program


def memory_kib(pid: int) -> dict[str, int] | None:
    """The figures of smaps_rollup by name, as Rss, Pss, Private_Dirty; None: it is gone."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    rows = (line.split() for line in text.splitlines())
    return {row[0].rstrip(":"): int(row[1]) for row in rows if row[-1] == "kB"}


def pss_kib(pid: int) -> int | None:
    """Proportional set size; None when the process is gone."""
    return (memory_kib(pid) or {}).get("Pss")


def open_files(pid: int) -> int | None:
    """Open file descriptors; None when the process is gone."""
    try:
        return len(list(Path(f"/proc/{pid}/fd").iterdir()))
    except (FileNotFoundError, ProcessLookupError):
        return None


@dataclass(frozen=True, slots=True)
class Sample:
    at: float  # seconds, monotonic
    pid: int
    pss_kib: int
    files: int


class Samples:
    """Of each program, by name."""

    def __init__(self) -> None:
        self.of: dict[str, list[Sample]] = defaultdict(list)

    def take(self, programs: list[Program]) -> None:
        for program in programs:
            process = program.process
            if process is None:
                continue
            pss, files = pss_kib(process.pid), open_files(process.pid)
            if pss is not None and files is not None:
                self.of[program.name].append(Sample(time.monotonic(), process.pid, pss, files))

    def last(self) -> dict[str, int]:
        """The newest figure of each, MiB."""
        return {name: samples[-1].pss_kib // 1024 for name, samples in self.of.items()}

    def growth(self, since: float) -> dict[str, float]:
        """Median of the last third of what was seen since then, over that of the first third.

        Of the process that lives now only, so that a restart cannot hide growth.
        """
        return {name: _growth(samples, since) for name, samples in self.of.items()}

    def most_files(self) -> int:
        return max((sample.files for samples in self.of.values() for sample in samples), default=0)


def _growth(samples: list[Sample], since: float) -> float:
    newest = samples[-1].pid
    sizes = [each.pss_kib for each in samples if each.pid == newest and each.at >= since]
    third = len(sizes) // 3
    if not third:
        return 1.0
    return statistics.median(sizes[-third:]) / statistics.median(sizes[:third])
