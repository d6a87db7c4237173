"""Times that others tell, so that showing them cannot fail."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

LAST_S: Final = 253_402_214_400
"""The last day of the year 9999 in Unix seconds: every time zone still has a date for it."""


def clamped(seconds: float) -> float:
    """The nearest Unix time from 1970 to 9999."""
    return min(max(0.0, seconds), LAST_S)


def utc(seconds: float) -> datetime:
    """Any Unix time as a date: what none can say becomes the nearest."""
    return datetime.fromtimestamp(clamped(seconds), UTC)
