"""How often somebody may try a name's password, so that nobody else shuts its owner out.

Whoever begins a login has made a guess: by the relay's answer alone the client can tell whether its
password was right (RFC 9807, 3.3), and need never finish. So a beginning is charged, and given back
to who finishes; what stays charged are failures. Each place pays for itself first, and many
places together only shut out places that are as new as they are: a device of the account, and a
place from which it was logged into, have nothing to do with strangers' guesses.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from relay.limits import HOUR_S, RelayLimits
from relay.refusals import too_many_logins
from transport.rate import Buckets

KNOWN_PLACES: Final = 10_000  # since the start; a forgotten one is new again

# Who tries which name: a device of the account itself, or an address prefix (None: loopback).
Source = tuple[str, bytes | None]


class Guesses:
    """`clock` gives seconds that only grow."""

    def __init__(self, limits: RelayLimits, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._by_source = Buckets[Source](
            limits.prefix_name_logins_per_hour / HOUR_S, limits.prefix_name_logins_burst
        )
        self._by_strangers = Buckets[str](
            limits.name_logins_per_hour / HOUR_S, limits.name_logins_burst
        )
        self._known = OrderedDict[Source, None]()

    def use(self, name: str, by: bytes | None, *, own: bool = False) -> None:
        """One guess; `own`: `by` is a device of the account. Raises TryLater `try-later`."""
        source, now = (name, by), self._clock()
        stranger = not own and source not in self._known
        wait_s = self._by_source.wait_s(source, now)
        if stranger:
            wait_s = max(wait_s, self._by_strangers.wait_s(name, now))
        if wait_s:
            raise too_many_logins(wait_s)
        self._by_source.of(source).use(1, now)
        if stranger:
            self._by_strangers.of(name).use(1, now)

    def was_right(self, name: str, by: bytes | None, *, own: bool = False) -> None:
        """The login that `use` was for has succeeded."""
        source, now = (name, by), self._clock()
        self._by_source.of(source).use(-1, now)
        if own:
            return
        if source not in self._known:
            self._by_strangers.of(name).use(-1, now)
        self._known[source] = None
        self._known.move_to_end(source)
        if len(self._known) > KNOWN_PLACES:
            self._known.popitem(last=False)
