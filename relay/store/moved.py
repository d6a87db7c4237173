"""The mark of a database whose relay was moved to another one: it is a copy of the past since.

Two relays of one key spoil each other's mail. A database that is taken back is older than the
world, as a restored backup is, and made safe at its next start as that is.
"""

from __future__ import annotations

from typing import Final

from schemas.errors import Refused
from schemas.times import utc

WAS_MOVED: Final = "moved-away"  # the code of the refusal
MOVED_AWAY: Final = "moved_away"  # in the table meta; its value: when, in Unix seconds


def moved_away(when: int) -> Refused:
    return Refused(
        WAS_MOVED,
        f"this relay was moved to another database on {utc(when):%Y-%m-%d at %H:%M} UTC",
        hint="run that one; to go back to this one: migrate --moved-back, with the same settings",
    )


def not_moved() -> Refused:
    return Refused("not-moved", "no relay was moved away from this database", hint="it can be run")
