"""What the relay does by itself, for as long as it runs, whatever happens to it in between."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial

from transport.supervise import begun_again


class Upkeep:
    """Work that begins anew, after a growing pause, when it fails in a way that nobody foresaw.

    `failures` counts those by the work's name; `failing` has the names of what has not got
    through since, first failed first.
    """

    def __init__(self) -> None:
        self.failures: Counter[str] = Counter()
        self.failing: dict[str, None] = {}

    def start(self, name: str, work: Callable[[], Awaitable[None]]) -> asyncio.Task[None]:
        """The task belongs to the caller, who cancels it. `work` says when it `got_through`."""
        return asyncio.create_task(begun_again(work, partial(self._failed, name)), name=name)

    def _failed(self, name: str) -> None:
        self.failures[name] += 1
        self.failing[name] = None

    def got_through(self, name: str) -> None:
        self.failing.pop(name, None)
