"""Outcomes on their way to the engine: in batches, each exactly once, retried until written.

One that the engine fails on is found, and holds up no other.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from typing import Final

from node.delivery.asking import Ask
from node.engine.delivery_commands import Outcome, ReportOutcomes
from schemas.errors import Blame, Fault

_AGAIN_S: Final = 1.0  # a full disk: the parcels stay out until their outcome is written
_BATCH: Final = 256
_SETTLE_S: Final = 2.0  # for the last outcomes to be written
_UNWRITABLE: Final = "internal"

log = logging.getLogger(__name__)


class OutcomeDesk:
    """Couriers hand outcomes in; `run` reports whatever gathered while the last were written."""

    def __init__(self, ask: Ask, counters: Counter[str]) -> None:
        self._ask = ask
        self._counters = counters
        self._waiting: list[Outcome] = []
        self._arrived = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._progress = asyncio.Event()

    def report(self, outcome: Outcome) -> None:
        if log.isEnabledFor(logging.DEBUG):
            log.debug("%r left: %s", outcome.parcel, _in_words(outcome))
        self._waiting.append(outcome)
        self._idle.clear()
        self._arrived.set()

    async def run(self) -> None:
        """Report for ever; cancel after `settled`."""
        most = _BATCH
        while True:
            await self._arrived.wait()
            batch = tuple(self._waiting[:most])
            try:
                await self._ask(ReportOutcomes(batch))
            except Fault as fault:
                self._counters[f"outcomes-{fault.code}"] += 1
                if fault.blame is Blame.ENVIRONMENT:
                    log.warning("outcomes could not be written: %s", fault)
                    await asyncio.sleep(_AGAIN_S)
                    continue
                if len(batch) > 1:  # nothing of it was written: find the one it failed on
                    most = len(batch) // 2
                    continue
                self._replace_first(fault)
            else:
                most = min(2 * most, _BATCH)
                del self._waiting[: len(batch)]
            self._progress.set()
            if not self._waiting:
                self._arrived.clear()
                self._idle.set()

    def _replace_first(self, fault: Fault) -> None:
        """It is as if nothing came of its parcel: that goes again, by the schedule."""
        bad = self._waiting.pop(0)
        self._counters["outcome-dropped"] += 1
        log.error("what became of %r was dropped: %s", bad.parcel, fault)
        if bad.reason != _UNWRITABLE:
            self._waiting.insert(0, Outcome(bad.parcel, reason=_UNWRITABLE))

    async def settled(self) -> None:
        """Wait until everything handed in is written."""
        await self._idle.wait()

    async def settled_soon(self) -> None:
        """As `settled`, at the end: 2 s at most, and what is not written then is counted."""
        try:
            async with asyncio.timeout(_SETTLE_S):
                await self.settled()
        except TimeoutError:
            self._counters["outcomes-not-written"] += 1

    async def progress(self) -> None:
        """Wait until more outcomes have been written than when this was called."""
        self._progress.clear()
        await self._progress.wait()


def _in_words(outcome: Outcome) -> str:
    if outcome.acked:
        return "on the recipient's disk"
    if outcome.held is not None:
        return "held by a relay"
    if outcome.refused is not None:
        return f"refused, {outcome.refused}"
    return f"not yet, {outcome.reason}"
