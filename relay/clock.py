"""A wall clock that jumps ahead may be wrong; what it makes look expired is not deleted at once."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

log = logging.getLogger(__name__)

JUMP_S: Final = 300.0  # more than any clock is stepped by in passing
DOUBT_S: Final = 3600.0  # time for the operator, or NTP, to set it right


class ClockDoubt:
    """Compares wall time with `steady` seconds, which only grow."""

    def __init__(self, wall: float, steady: Callable[[], float]) -> None:
        self._steady = steady
        self._wall = wall
        self._at = steady()
        self._until = 0.0

    def trusts(self, wall: float) -> bool:
        """Whether to delete by this clock. After a jump ahead not before DOUBT_S; a clock that went
        back again is trusted at once."""
        now = self._steady()
        jump = (wall - self._wall) - (now - self._at)
        self._wall, self._at = wall, now
        if jump > JUMP_S:
            self._until = now + DOUBT_S
            log.warning("the clock went ahead by %d s; nothing is deleted for %d s", jump, DOUBT_S)
        elif jump < -JUMP_S:
            self._until = 0.0
            log.warning("the clock went back by %d s", -jump)
        return now >= self._until
