"""Names heard on the LAN, looked at no faster than we can afford, by lot when many wait; pure."""

from __future__ import annotations

import random
from collections import Counter
from typing import Final

from transport.rate import TokenBucket

NAMES_PER_S: Final = 100.0  # one takes 0.2 ms: at most 2 % of a core
_AT_ONCE: Final = 256  # as many as there can be peers
_WAITING: Final = 512


class NamesHeard:
    """Times are seconds of any clock that only grows. `dropped` counts `names-not-read`.

    Under a flood one name has as good a chance as another, whenever it is said; one that is said
    again and again has its turn.
    """

    def __init__(
        self, dropped: Counter[str], *, per_s: float = NAMES_PER_S, waiting: int = _WAITING
    ) -> None:
        self.dropped = dropped
        self._bucket = TokenBucket(per_s, _AT_ONCE)
        self._limit = waiting
        self._waiting: list[str] = []
        self._known: set[str] = set()

    def __len__(self) -> int:
        return len(self._waiting)

    def admit(self, name: str, now: float) -> bool:
        """Whether to look at it now; else it waits, unless it or another loses its place."""
        if not self._waiting and self._bucket.take(now):
            return True
        if name in self._known:
            return False
        if len(self._waiting) < self._limit:
            self._waiting.append(name)
            self._known.add(name)
            return False
        self.dropped["names-not-read"] += 1
        place = random.randrange(2 * self._limit)  # noqa: S311 - half of the newcomers get one
        if place < self._limit:
            self._known.discard(self._waiting[place])
            self._waiting[place] = name
            self._known.add(name)
        return False

    def wait_s(self, now: float) -> float:
        """Until the next one may be taken."""
        return self._bucket.wait_s(now)

    def take(self, now: float) -> str:
        """Any of those that wait. Raises IndexError when there is none."""
        place = random.randrange(len(self._waiting)) if self._waiting else 0  # noqa: S311
        name = self._waiting[place]
        self._waiting[place] = self._waiting[-1]
        self._waiting.pop()
        self._known.discard(name)
        self._bucket.use(1, now)
        return name
