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
        self._doubted: float | None = people.setting(_DOUBTED) or None
        self._written: float = people.setting(_SEEN, 0.0)
        self._base = self._written  # what was believed when the doubt began
        self._last = 0.0
        self.believed = self._written
        self.went_back = False  # since the last batch

    def observe(self, now: float) -> None:
        """Once per batch, inside its transaction."""
        step, self._last = now - (self._last or now), now
        self.went_back = step < -1.0
        doubted = self._doubted
        if doubted is not None and now >= doubted:
            if step > 2 * DOUBT_S:
                doubted = now  # nobody can have put it right in between
            elif now - doubted >= DOUBT_S:
                doubted = None
        else:  # not doubted, or put right: perhaps not far enough
            doubted = now if self.believed and now - self.believed > JUMP_S else None
        self._settle(now, doubted)

    def _settle(self, now: float, doubted: float | None) -> None:
        changed = doubted != self._doubted
        if changed and doubted is not None:
            self._base = self.believed
        self.believed = now if doubted is None else self._base + (now - doubted)
        if changed:
            self._doubted = doubted
            self._people.set_setting(_DOUBTED, doubted or 0.0)
        if changed or (doubted is None and abs(now - self._written) >= _WRITE_S):
            self._written = self.believed
            self._people.set_setting(_SEEN, self.believed)
