"""When relays hear of a recipient: not of those of one message together, or the moment tells of it.

Whoever is the first after a quiet time has its turn at once; everybody else waits for a random time
of up to `spread_s`, so what came for many arrives mixed with whatever else came then. Parcels and
look-ups for one recipient share the turn that it waits for.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

from schemas.ids import DeviceKey


class Departures:
    """For all recipients of this node. `clock` gives seconds that only grow."""

    def __init__(self, spread_s: float, clock: Callable[[], float]) -> None:
        self._spread_s = spread_s
        self._clock = clock
        self._random = random.SystemRandom()
        self._left_at: dict[DeviceKey, float] = {}  # or will leave

    async def turn(self, device: DeviceKey) -> None:
        """Wait until relays may hear of this device."""
        wait_s = self.wait_s(device)
        if wait_s:
            await asyncio.sleep(wait_s)

    def wait_s(self, device: DeviceKey) -> float:
        """How long it has to wait from now on; remembered as its departure."""
        now = self._clock()
        if self._left_at.get(device, now) > now:
            return self._left_at[device] - now
        since = now - self._spread_s
        self._left_at = {each: at for each, at in self._left_at.items() if at > since}
        alone = not self._left_at.keys() - {device}
        wait_s = 0.0 if alone else self._random.uniform(0.0, self._spread_s)
        self._left_at[device] = now + wait_s
        return wait_s
