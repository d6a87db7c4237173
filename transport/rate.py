"""A token bucket, without a clock of its own."""

from __future__ import annotations


class Rate:
    """`per_s` events per second on average, and as many as that at once after a quiet second."""

    def __init__(self, per_s: float) -> None:
        self._per_s = per_s
        self._left = per_s
        self._counted_at = 0.0

    def take(self, now: float) -> bool:
        """Whether one more event may happen at `now` (seconds, monotonic)."""
        self._left = min(self._per_s, self._left + (now - self._counted_at) * self._per_s)
        self._counted_at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True
