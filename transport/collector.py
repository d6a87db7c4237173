"""Cyclic garbage is collected by the thread of the event loop, and by no other.

Objects of pycapnp belong to their loop's thread: freed by another one, they abort the process
(`fatal: expected …`, no traceback). Connections and failed calls end in cycles that hold some, and
Python collects in whichever thread allocates next: the engine's, or a store's.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_LOOK_S: Final = 0.5
_FULL_S: Final = 30.0  # between two collections of everything
_FULL_SHARE: Final = 0.005  # of the time goes to these at most


@contextmanager
def collecting_here() -> Iterator[None]:
    """For the length of the block this loop collects for the whole process; inside a loop."""
    if not gc.isenabled():  # another loop does, or the program does not want it
        yield
        return
    collector = _Collector(asyncio.get_running_loop())
    gc.disable()
    try:
        collector.look()
        yield
    finally:
        collector.stop()
        gc.collect()  # what is left of this loop
        gc.enable()


class _Collector:
    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._full_at = time.monotonic() + _FULL_S
        self._timer: asyncio.TimerHandle | None = None

    def look(self) -> None:
        self._timer = self._loop.call_later(_LOOK_S, self.look)
        young, middle, old = gc.get_count()
        young_most, middle_most, old_most = gc.get_threshold()
        if old > old_most and time.monotonic() >= self._full_at:
            begun = time.monotonic()
            gc.collect()
            took = time.monotonic() - begun
            self._full_at = begun + max(_FULL_S, took / _FULL_SHARE)
        elif middle > middle_most:
            gc.collect(1)
        elif young > young_most:
            gc.collect(0)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
