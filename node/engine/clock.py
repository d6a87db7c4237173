"""Time that may be believed: the machine's clock can jump, and nothing may expire because it did.

A step forward of more than a day is doubted for an hour, in which somebody may put it right: the
laptop slept for a week, or the clock is wrong, and nobody here can tell which. Until then time
goes on from where it was, for everything that deletes or gives up. A step back is believed at
once: it only makes things wait, and whoever holds a timer sets it anew.
"""

from __future__ import annotations

from typing import Final

from node.store.people import PeopleStore

JUMP_S: Final = 86_400.0
DOUBT_S: Final = 3600.0
_WRITE_S: Final = 3600.0
_SEEN, _DOUBTED = "clock_seen", "clock_doubted"


class Clock:
    """What the engine thinks of `now` (Unix seconds). Remembers across processes."""

    def __init__(self, people: PeopleStore) -> None:
        self._people = people
        self._seen: float = people.setting(_SEEN, 0.0)
        self._doubted: float | None = people.setting(_DOUBTED) or None
        self._last = 0.0
        self.believed = 0.0
        self.went_back = False  # since the last batch

    def observe(self, now: float) -> None:
        """Once per batch, inside its transaction."""
        step, self._last = now - (self._last or now), now
        self.went_back = step < -1.0
        if self._doubted is not None and now < self._doubted:
            self._doubt(None)  # it was put right
        elif self._doubted is not None and step > 2 * DOUBT_S:
            self._doubt(now)  # nobody can have put it right in between
        elif self._doubted is not None and now - self._doubted >= DOUBT_S:
            self._doubt(None)
            self._see(now)
        if self._doubted is None:
            if self._seen and now - self._seen > JUMP_S:
                self._doubt(now)
            elif not self._seen or abs(now - self._seen) >= _WRITE_S:
                self._see(now)
        self.believed = now if self._doubted is None else self._seen + (now - self._doubted)

    def _see(self, now: float) -> None:
        self._seen = now
        self._people.set_setting(_SEEN, now)

    def _doubt(self, since: float | None) -> None:
        self._doubted = since
        self._people.set_setting(_DOUBTED, since or 0.0)
