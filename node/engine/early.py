"""Arrivals that can be neither acted on nor refused yet."""

from __future__ import annotations


class Early(Exception):
    """What this depends on is not here yet: keep it until it is.

    `known`: by somebody we know, though of a group that we are not in yet.
    """

    def __init__(self, *, known: bool = False) -> None:
        super().__init__()
        self.known = known


class NoRoom(Exception):
    """Nothing more of this kind can be kept just now: withhold the acknowledgement."""
