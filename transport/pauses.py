"""How long to wait before the next try."""

from __future__ import annotations

import random


def doubled(first_s: float, times: int, most_s: float) -> float:
    return min(first_s * 2.0 ** min(times, 16), most_s)


def spread(pause_s: float) -> float:
    """By a quarter either way, or all come at once."""
    return pause_s * random.uniform(0.75, 1.25)  # noqa: S311 - spreads load, hides nothing


def growing(first_s: float, times: int, most_s: float) -> float:
    """As `doubled`, and `spread`."""
    return spread(doubled(first_s, times, most_s))
