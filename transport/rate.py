"""Token buckets, without a clock of their own: one, and one for each of many keys."""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import Generic, TypeVar

K = TypeVar("K")

BUCKETS = 10_000  # remembered per table; a forgotten one starts full


class TokenBucket:
    """Holds up to `burst` tokens, refilled by `rate` per second; it starts full.

    What something costs may be known only afterwards, so a bucket can go into debt; whoever is in
    debt waits until it is paid. `now` is in seconds of a clock that only grows.
    """

    __slots__ = ("_burst", "_full_at", "_rate")

    def __init__(self, rate: float, burst: float) -> None:
        self._rate = rate
        self._burst = burst
        # Instead of the level: when it will be full, counted in tokens. Asking changes nothing.
        self._full_at = -math.inf

    def wait_s(self, now: float) -> float:
        """Seconds until something may be used; 0 when it may be now."""
        debt = self._full_at - now * self._rate - self._burst
        return 0.0 if debt < 0 else (debt + 1) / self._rate

    def use(self, cost: float, now: float) -> None:
        full = now * self._rate
        self._full_at = (self._full_at if self._full_at > full else full) + cost

    def take(self, now: float) -> bool:
        """Use one token, if there is one; whether there was."""
        if self.wait_s(now):
            return False
        self.use(1, now)
        return True


class Buckets(Generic[K]):
    """One bucket for each key, the BUCKETS last used."""

    def __init__(self, rate: float, burst: float) -> None:
        self._rate = rate
        self._burst = burst
        self._buckets: OrderedDict[K, TokenBucket] = OrderedDict()

    def of(self, key: K) -> TokenBucket:
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._buckets[key] = TokenBucket(self._rate, self._burst)
            if len(self._buckets) > BUCKETS:
                self._buckets.popitem(last=False)
        else:
            self._buckets.move_to_end(key)
        return bucket

    def wait_s(self, key: K, now: float) -> float:
        """As its bucket's; a key that has used nothing gets no bucket by being asked for."""
        bucket = self._buckets.get(key)
        return 0.0 if bucket is None else bucket.wait_s(now)

    def forget(self, key: K) -> None:
        """Its bucket is full again."""
        self._buckets.pop(key, None)
