"""Token buckets: how much of something may be used, at once and in the long run."""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeVar

K = TypeVar("K")

BUCKETS = 10_000  # remembered per table; a forgotten one starts full


class TokenBucket:
    """Holds up to `burst` tokens, refilled by `rate` per second.

    What something costs may be known only afterwards, so a bucket can go into debt; whoever is in
    debt waits until it is paid.
    """

    __slots__ = ("_at", "_burst", "_level", "_rate")

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self._rate = rate
        self._burst = burst
        self._level = burst
        self._at = now

    def wait_s(self, now: float) -> float:
        """Seconds until something may be used; 0 when it may be now."""
        if now > self._at:
            self._level = min(self._burst, self._level + (now - self._at) * self._rate)
            self._at = now
        return 0.0 if self._level > 0 else (1 - self._level) / self._rate

    def use(self, cost: float) -> None:
        self._level -= cost


class Buckets(Generic[K]):
    """One bucket for each key, the BUCKETS last used."""

    def __init__(self, rate: float, burst: float) -> None:
        self._rate = rate
        self._burst = burst
        self._buckets: OrderedDict[K, TokenBucket] = OrderedDict()

    def of(self, key: K, now: float) -> TokenBucket:
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._buckets[key] = TokenBucket(self._rate, self._burst, now)
            if len(self._buckets) > BUCKETS:
                self._buckets.popitem(last=False)
        else:
            self._buckets.move_to_end(key)
        return bucket
