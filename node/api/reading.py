"""How far a cursor may move when a batch was handled in part: a batch is not in arrival order."""

from __future__ import annotations

from collections.abc import Sequence

from node.api.shapes import Message, Seen


def seen(handled: Sequence[Message], rest: Sequence[Message]) -> list[Seen]:
    """What to acknowledge, per group, so that nothing of `rest` is skipped."""
    found: list[Seen] = []
    for group in {message.group for message in handled}:
        first_missing = min((m.arrival for m in rest if m.group == group), default=None)
        arrivals = [
            m.arrival
            for m in handled
            if m.group == group and (first_missing is None or m.arrival < first_missing)
        ]
        if arrivals:
            found.append(Seen(group, max(arrivals)))
    return found
