"""One token bucket for each of many keys."""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeVar

from transport.rate import TokenBucket

K = TypeVar("K")

BUCKETS = 10_000  # remembered per table; a forgotten one starts full


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
