"""The one timer of a connection: when aioquic wants to be woken."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from aioquic.quic.congestion.base import K_GRANULARITY

# A timer may fire a rounding error early; under a virtual clock that loops for ever.
TIMER_SLACK_S = 1e-6


class Timed(Protocol):
    """What the timer needs of the state machine."""

    @property
    def started(self) -> bool: ...
    @property
    def paced(self) -> bool: ...
    def get_timer(self) -> float | None: ...


class ConnectionTimer:
    """Calls `due(now)` once the state machine's timer is reached; `arm` after each change."""

    def __init__(self, quic: Timed, due: Callable[[float], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._quic = quic
        self._due = due
        self._handle: asyncio.TimerHandle | None = None

    def arm(self, now: float) -> None:
        """Left alone when it fires too early: moving it for each packet costs more."""
        handle = self._handle
        # Nothing but pacing wants to be woken sooner than aioquic's granularity, and finding out
        # costs as much as sending a small packet.
        if handle is not None and handle.when() <= now + K_GRANULARITY and not self._quic.paced:
            return
        at = self._quic.get_timer() if self._quic.started else None
        if at is None:
            return
        if handle is not None:
            if handle.when() <= at:
                return
            handle.cancel()
        self._handle = self._loop.call_at(at, self._fire)

    def cancel(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _fire(self) -> None:
        self._handle = None
        at = self._quic.get_timer()
        now = self._loop.time() + TIMER_SLACK_S
        if at is None or at > now:
            self.arm(now)
        else:
            self._due(now)
