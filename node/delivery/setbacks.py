"""Processes of relays that failed, and how long the others of their relay come first."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import TypeAlias

from node.delivery.limits import DeliveryLimits
from schemas.addresses import Address
from schemas.ids import DeviceKey
from schemas.limits import RELAY_PROCESSES
from transport.pauses import growing

ProcessKey: TypeAlias = tuple[DeviceKey, Address]


class Setbacks:
    """Each one in a row doubles the pause; a process that was well for long begins anew."""

    def __init__(self, limits: DeliveryLimits) -> None:
        self._limits = limits
        self._clock = asyncio.get_running_loop().time
        self._known: OrderedDict[ProcessKey, tuple[int, float]] = OrderedDict()

    def note(self, process: ProcessKey, since: float) -> None:
        """It did not answer to what began at `since`, loop time, or was lost then.

        What many dials see, or what began while it yields, is one setback.
        """
        limits, now = self._limits, self._clock()
        before, until = self._known.get(process, (0, 0.0))
        if since < until:
            return
        if now - until >= limits.relay_steady_s:
            before = 0
        pause = growing(limits.relay_return_first_s, before, limits.relay_return_last_s)
        self._known[process] = before + 1, now + pause
        self._known.move_to_end(process)
        if len(self._known) > limits.relays_at_once * RELAY_PROCESSES:
            self._known.popitem(last=False)

    def until(self, process: ProcessKey) -> float:
        """Loop time until which it yields to the others; 0: it does not."""
        _, until = self._known.get(process, (0, 0.0))
        return until

    def clear(self) -> None:
        """On another network everything may be otherwise."""
        self._known.clear()
