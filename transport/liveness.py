"""Whether the peer is there: pings, keep-alive, and an end to a peer that acknowledges nothing."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable

from schemas.errors import Unreachable

from .limits import TransportLimits
from .quic import MutualQuicConnection
from .timer import TIMER_SLACK_S

_KEEP_ALIVE_UID = 0


class Liveness:
    """One connection's pings. `transmit` sends what is due, `mute` ends the connection.

    A peer may keep a connection alive and never acknowledge: what we sent would be held for ever.
    """

    def __init__(
        self,
        quic: MutualQuicConnection,
        limits: TransportLimits,
        *,
        transmit: Callable[[], None],
        mute: Callable[[], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._quic = quic
        self._limits = limits
        self._transmit = transmit
        self._mute = mute
        self._pings: dict[int, asyncio.Future[None]] = {}
        self._uids = itertools.count(_KEEP_ALIVE_UID + 1)
        self._tick: asyncio.TimerHandle | None = None
        self.last_heard_at = self._loop.time()

    def start(self) -> None:
        """The handshake is complete: keep the connection alive from now on."""
        self._tick = self._loop.call_later(self._limits.keep_alive_s, self._keep_alive)

    def stop(self) -> None:
        """The connection is over: pings end, for `ping` to look why."""
        if self._tick is not None:
            self._tick.cancel()
        for waiter in self._pings.values():
            if not waiter.done():
                waiter.set_result(None)

    async def ping(self, deadline_s: float | None) -> float:
        """Round-trip time in seconds, or the time to the connection's end.

        Raises Unreachable `ping-unanswered`.
        """
        uid = next(self._uids)
        waiter = self._pings[uid] = self._loop.create_future()
        started = self._loop.time()
        self._quic.send_ping(uid)
        self._transmit()
        deadline_s = self._limits.ping_deadline_s if deadline_s is None else deadline_s
        try:
            async with asyncio.timeout(deadline_s):
                await waiter
        except TimeoutError as error:
            raise Unreachable(
                "ping-unanswered", f"No answer to a ping for {deadline_s:g} s"
            ) from error
        finally:
            self._pings.pop(uid, None)
        return self._loop.time() - started

    def answered(self, uid: int) -> None:
        waiter = self._pings.pop(uid, None)
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def _keep_alive(self) -> None:
        now = self._loop.time()
        quiet = now - self.last_heard_at
        speaks = quiet < self._limits.idle_timeout_s  # else it is gone, and the idle timeout near
        if speaks and self._quic.unanswered_s(now) >= self._limits.ack_deadline_s:
            self._mute()
            return
        wait = self._limits.keep_alive_s
        if quiet + TIMER_SLACK_S >= wait:
            self._quic.send_ping(_KEEP_ALIVE_UID)
            self._tick = None
            self._transmit()
        else:
            wait -= quiet
        self._tick = self._loop.call_later(wait, self._keep_alive)
