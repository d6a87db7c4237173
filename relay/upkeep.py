"""What the relay does by itself, for as long as it runs, whatever happens to it in between."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial

from schemas.errors import Fault
from transport.supervise import begun_again

log = logging.getLogger(__name__)


class Upkeep:
    """Work that begins anew, after a growing pause, when it fails in a way that nobody foresaw.

    `failures` counts those by the work's name; `failing` has the names of what has not got
    through since, first failed first. A Fault is foreseen: it is logged when it begins and ends.
    """

    def __init__(self) -> None:
        self.failures: Counter[str] = Counter()
        self.failing: dict[str, None] = {}
        self._faults: dict[str, str] = {}  # the code of each work's last one, while it lasts

    def start(self, name: str, work: Callable[[], Awaitable[None]]) -> asyncio.Task[None]:
        """The task belongs to the caller, who cancels it. `work` says when it `got_through`."""
        return asyncio.create_task(begun_again(work, partial(self._failed, name)), name=name)

    def _failed(self, name: str) -> None:
        self.failures[name] += 1
        self.failing[name] = None

    def got_through(self, name: str) -> None:
        self.failing.pop(name, None)
        if self._faults.pop(name, None) is not None:
            log.warning("%s: it works again", name)

    def held_up(self, name: str, why: Fault | TimeoutError, what: str) -> None:
        """It is tried again by itself. `what` says what that means meanwhile."""
        code, words = (why.code, str(why)) if isinstance(why, Fault) else ("late", "no answer")
        if self._faults.get(name) != code:
            log.error("%s: %s: %s", name, what, words)
        self._faults[name] = code
