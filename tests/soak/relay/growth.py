"""Memory of processes over the time of a steady load, and whether it grows."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.soak.memory import memory_kib

MAY_GROW: Final = 0.03  # of its size, in the last two thirds of the time …
MAY_GROW_KIB: Final = 2048.0  # … or that much, where it is more
KINDS: Final = ("Rss", "Pss", "Private_Dirty")
JUDGED: Final = "Private_Dirty"  # the others grow, too, when programs that share a library end


@dataclass(frozen=True, slots=True)
class Growth:
    """A straight line through the last two thirds of what was seen. KiB; seconds."""

    size: float  # in the middle of that time
    per_s: float
    seconds: float

    @property
    def kib(self) -> float:
        return self.per_s * self.seconds

    @property
    def mib_per_h(self) -> float:
        return self.per_s * 3600 / 1024

    @property
    def flat(self) -> bool:
        return self.kib <= max(MAY_GROW_KIB, MAY_GROW * self.size)


def growth_of(samples: Sequence[tuple[float, float]]) -> Growth:
    """`samples`: (seconds, KiB), in order, three at least."""
    first, last = samples[0][0], samples[-1][0]
    times, sizes = zip(
        *((at, size) for at, size in samples if at >= first + (last - first) / 3), strict=True
    )
    slope = statistics.linear_regression(times, sizes).slope if len(times) > 1 else 0.0
    return Growth(statistics.mean(sizes), slope, times[-1] - times[0])


class Watch:
    """Samples of programs by name; a program of several processes is their sum."""

    def __init__(self) -> None:
        self.of: defaultdict[tuple[str, str], list[tuple[float, float]]] = defaultdict(list)

    def take(self, at: float, programs: Mapping[str, Iterable[int]]) -> None:
        """Who has gone meanwhile is left out."""
        for name, pids in programs.items():
            found = [figures for pid in pids if (figures := memory_kib(pid))]
            for kind in KINDS:
                self.of[name, kind].append((at, float(sum(each[kind] for each in found))))

    def last_mib(self, name: str, kind: str) -> float:
        return self.of[name, kind][-1][1] / 1024

    def growth(self) -> dict[tuple[str, str], Growth]:
        """By program and kind."""
        return {key: growth_of(samples) for key, samples in self.of.items()}


def serving(postmaster: int) -> list[int]:
    """PostgreSQL's processes but those which come and go to clean up."""
    found = [postmaster]
    for folder in Path("/proc").iterdir():
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            name = (folder / "cmdline").read_bytes()
        except (OSError, ValueError, IndexError):
            continue
        if parent == postmaster and b"autovacuum worker" not in name:
            found.append(int(folder.name))
    return found
