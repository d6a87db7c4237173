"""Places for connections: those of devices that something is kept for, and anonymous ones.

A sealed sender connects with a throw-away key for each recipient, 16 at once for one node: behind
the one address of a village there are more of these than people. So each kind has places of its own
in an address prefix; and where they are taken, or the relay is full, the anonymous connection that
made no call for the longest gives up its own. Who comes to bring something is let in, and who only
holds places loses them first.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from relay.limits import RelayLimits
from relay.refusals import TryLater

if TYPE_CHECKING:
    from relay.callers import Caller

MADE_ROOM = "made-room"  # why an anonymous connection was closed


class Places:
    """Of one relay. Whoever enters is anonymous until it is kept."""

    def __init__(self, limits: RelayLimits) -> None:
        self._limits = limits
        self._number = 0
        self._anonymous: dict[bytes | None, set[Caller]] = {}
        self._kept: dict[bytes | None, set[Caller]] = {}

    def __len__(self) -> int:
        return self._number

    def enter(self, caller: Caller) -> None:
        """Raises TryLater `too-many-connections` when all places of the relay are kept."""
        here = self._anonymous.get(caller.prefix, set())
        if caller.prefix is not None and len(here) >= self._limits.anonymous_per_prefix:
            self._make_room(here)
        elif len(self) >= self._limits.connections:
            self._make_room(max(self._anonymous.values(), key=len, default=set()))
        self._add(self._anonymous, caller)

    def keep(self, caller: Caller, *, registered: bool) -> None:
        """It is no stranger's, of whom `registered` ones are always let in. Idempotent.

        Raises TryLater `too-many-connections`.
        """
        if caller not in self._anonymous.get(caller.prefix, ()):
            return
        held = len(self._kept.get(caller.prefix, ()))
        if (
            caller.prefix is not None
            and not registered
            and held >= self._limits.connections_per_prefix
        ):
            raise too_many_connections()
        self._remove(self._anonymous, caller)
        self._add(self._kept, caller)

    def leave(self, caller: Caller) -> None:
        """Idempotent."""
        for kind in (self._anonymous, self._kept):
            if caller in kind.get(caller.prefix, ()):
                self._remove(kind, caller)

    def _make_room(self, anonymous: Collection[Caller]) -> None:
        unused = min(anonymous, key=lambda caller: caller.used_at, default=None)
        if unused is None:
            raise too_many_connections()
        self._remove(self._anonymous, unused)
        unused.hang_up(MADE_ROOM)

    def _add(self, kind: dict[bytes | None, set[Caller]], caller: Caller) -> None:
        kind.setdefault(caller.prefix, set()).add(caller)
        self._number += 1

    def _remove(self, kind: dict[bytes | None, set[Caller]], caller: Caller) -> None:
        here = kind[caller.prefix]
        here.remove(caller)
        if not here:
            del kind[caller.prefix]
        self._number -= 1


def too_many_connections() -> TryLater:
    return TryLater("too-many-connections", "more connections than allowed", retry_after_ms=30_000)
