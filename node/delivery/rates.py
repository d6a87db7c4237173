"""Token buckets per peer: what a device may ask of us, whatever it reconnects."""

from __future__ import annotations

from collections.abc import Callable, Hashable


class Rates:
    """`burst` at once, then one each `every_s`; at most `remembered` peers, idle ones go first."""

    def __init__(
        self, *, burst: int, every_s: float, remembered: int, clock: Callable[[], float]
    ) -> None:
        self._burst = burst
        self._every_s = every_s
        self._remembered = remembered
        self._clock = clock
        self._spent: dict[Hashable, tuple[float, float]] = {}  # tokens left, when counted

    def take(self, who: Hashable) -> float:
        """0 when `who` may; else how long to wait, in seconds."""
        now = self._clock()
        left, counted = self._spent.pop(who, (float(self._burst), now))
        left = min(self._burst, left + (now - counted) / self._every_s)
        allowed = left >= 1
        self._spent[who] = (left - 1 if allowed else left, now)
        if len(self._spent) > self._remembered:
            del self._spent[next(iter(self._spent))]
        return 0.0 if allowed else (1 - left) * self._every_s
