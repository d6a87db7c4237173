"""Mail pushed to whoever subscribed: one batch at a time, the next when that was taken; and news.

States of a subscription: looking (into the mailbox) → pushing (a call of the subscriber's sink) →
looking …; looking finds nothing → waiting (for an arrival) → looking; the store is away or behind →
waiting (LOOK_AGAIN_S or so) → looking. It ends with its stream, its connection or the relay, when
a newer one takes its place, and when the sink fails or is too slow.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from relay.callers import Caller
from relay.limits import LOOK_AGAIN_S, PUSH_BYTES, PUSH_SLOW_S, PUSH_STOP_S, RelayLimits
from relay.memory import Memory
from relay.refusals import TryLater
from relay.store.contract import MailboxName, RelayStore
from schemas import limits as wire
from schemas.errors import Blame, Fault, Unreachable
from schemas.ids import DeviceKey
from schemas.node_service import Mailbox, fill_parcels
from transport import Connection
from transport.pauses import spread

if TYPE_CHECKING:
    from relay.call import Line

log = logging.getLogger(__name__)


class _StoreAway(Exception):
    """The mailbox could not be looked into now."""


@dataclass(slots=True, eq=False)
class Subscription:
    """One push stream. `line` is what it came by and ends with."""

    caller: Caller
    line: Line
    name: MailboxName
    after: int
    sink: Any
    task: asyncio.Task[None] | None = None
    telling: asyncio.Task[None] | None = None  # where its subscriber is now


class Subscriptions:
    """All that run. `counters`: `pushed` parcels and batches, and ends by reason."""

    def __init__(self, store: RelayStore, limits: RelayLimits, clock: Callable[[], float]) -> None:
        self._store = store
        self._limits = limits
        self._clock = clock
        self._running: set[Subscription] = set()
        self._devices: dict[DeviceKey, dict[Subscription, None]] = {}  # oldest first
        self._pushing: dict[Subscription, float] = {}  # since when; the longest first
        self._stopping = False
        self.counters: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._running)

    def start(self, subscription: Subscription) -> None:
        """Push from now on. Raises TryLater `too-many-subscriptions`."""
        caller, name = subscription.caller, subscription.name
        older = caller.subscriptions.get(name)
        if older is not None:
            self._end(older, "replaced")
        if (
            len(caller.subscriptions) >= self._limits.subscriptions_per_connection
            or len(self._devices.get(caller.device, ())) >= self._limits.subscriptions_per_device
            or len(self) >= self._limits.subscriptions
        ):
            raise TryLater(
                "too-many-subscriptions",
                "more subscriptions than this relay allows",
                retry_after_ms=60_000,
                hint="read with peek meanwhile",
            )
        caller.subscriptions[name] = subscription
        self._running.add(subscription)
        self._devices.setdefault(caller.device, {})[subscription] = None
        subscription.task = caller.start(self._run(subscription), name="push")

    def latest(self, device: DeviceKey) -> Subscription | None:
        """Of all that a device has, the one that it made last: its older ways may be dead."""
        return next(reversed(self._devices.get(device, {})), None)

    def moved(self, caller: Caller, connection: Connection) -> None:
        """Tell the caller that its connection comes from another address now."""
        for each in caller.subscriptions.values():
            if each.telling is None:
                each.telling = caller.start(self._tell_moved(each, connection), name="moved")

    async def _tell_moved(self, subscription: Subscription, connection: Connection) -> None:
        told = None
        try:
            while told != connection.remote and subscription in self._running:
                told = connection.remote
                request = subscription.sink.observed_request()
                request.address = str(told)
                await request.send()
        except Fault as fault:  # an older node does not know the method
            log.debug("a subscriber was not told where it is: %s", fault)
        finally:
            subscription.telling = None

    def end_line(self, caller: Caller, line: object) -> None:
        """The stream that a sink lives on is over."""
        for subscription in list(caller.subscriptions.values()):
            if subscription.line is line:
                self._end(subscription, "stream-over")

    def end_caller(self, caller: Caller, reason: str) -> None:
        """Whatever is pushed to this connection, no more."""
        for subscription in list(caller.subscriptions.values()):
            self._end(subscription, reason)

    async def stop(self) -> None:
        """Push nothing more, and give what is under way PUSH_STOP_S to arrive: a peer that is gone
        cannot be told from a slow one."""
        self._stopping = True
        tasks = [each.task for each in self._running if each.task is not None]
        for each in list(self._running):
            self._store.arrivals.announce(each.name)
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=PUSH_STOP_S)
            if late:
                log.info("%d pushes are cut off; what they held is in its mailboxes", len(late))

    def _end(self, subscription: Subscription, reason: str) -> None:
        self._forget(subscription, reason)
        if subscription.task is not None:
            subscription.task.cancel()

    def _forget(self, subscription: Subscription, reason: str) -> None:
        if subscription not in self._running:
            return
        self._running.discard(subscription)
        self.counters[reason] += 1
        caller = subscription.caller
        of_device = self._devices[caller.device]
        del of_device[subscription]
        if not of_device:
            del self._devices[caller.device]
        if caller.subscriptions.get(subscription.name) is subscription:
            del caller.subscriptions[subscription.name]

    async def _run(self, subscription: Subscription) -> None:
        reason = "connection-over"
        try:
            with self._store.arrivals.watch(subscription.name) as arrival:
                while not self._stopping:
                    arrival.clear()
                    try:
                        if not await self._push_next(subscription):
                            await arrival.wait()
                    except _StoreAway:  # its subscriber would not hear that it ended, nor of mail
                        with contextlib.suppress(TimeoutError):
                            async with asyncio.timeout(spread(LOOK_AGAIN_S)):
                                await arrival.wait()
            reason = "relay-stopping"
        except Unreachable as fault:
            reason = "sink-too-slow" if fault.code == "rpc-deadline" else fault.code
        except Fault as fault:
            reason = fault.code
        except Exception:
            reason = "internal"
            log.exception("a subscription failed")
        finally:
            self._forget(subscription, reason)
            subscription.sink = None  # KJ lets the peer forget it, too

    async def _push_next(self, subscription: Subscription) -> bool:
        """Whether there was something to push."""
        memory, held = subscription.caller.memory, PUSH_BYTES
        await self._room(memory)
        try:
            mailbox = await self._look(subscription)
            size = sum(len(parcel.sealed) for parcel in mailbox.parcels)
            memory.note(size - held)
            held = size
            if mailbox.parcels:
                await self._push(subscription, mailbox)
            return bool(mailbox.parcels)
        finally:
            memory.note(-held)

    async def _room(self, memory: Memory) -> None:
        """For one batch. Sinks that are slow must not keep it from the others."""
        while True:
            try:
                return await memory.take(PUSH_BYTES, PUSH_SLOW_S)
            except TryLater:
                # Where a share is used up, what others hold is not in the way.
                whole = memory.has_room(PUSH_BYTES)
                slow = (
                    each
                    for each in self._pushing.items()
                    if whole or each[0].caller.memory is memory
                )
                slowest, since = next(slow, (None, 0.0))
                if slowest and asyncio.get_running_loop().time() - since >= PUSH_SLOW_S:
                    self._end(slowest, "sink-too-slow")

    async def _look(self, subscription: Subscription) -> Mailbox:
        try:
            return await self._store.peek(
                subscription.name,
                after=subscription.after,
                limit=wire.MAILBOX_PARCELS,
                max_bytes=PUSH_BYTES,
                now=int(self._clock()),
            )
        except Fault as fault:
            if fault.blame is not Blame.ENVIRONMENT:
                raise
            log.debug("a mailbox is looked into again: %s", fault)
            raise _StoreAway from fault

    async def _push(self, subscription: Subscription, mailbox: Mailbox) -> None:
        request = subscription.sink.parcels_request()
        fill_parcels(request, mailbox.parcels)
        subscription.after = mailbox.parcels[-1].sequence
        self.counters["batches"] += 1
        self.counters["pushed"] += len(mailbox.parcels)
        del mailbox  # the request has it; a slow sink must not hold it twice
        self._pushing[subscription] = asyncio.get_running_loop().time()
        try:
            await request.send()
        finally:
            del self._pushing[subscription]
