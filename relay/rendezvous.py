"""Rendezvous: callers learn how they are seen here, and two of them dial each other at once.

Nothing is kept of a meeting. Whoever is not met, for whatever reason, is told so with the same
bytes after the same time: that a device is here is for the device to say.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Final

from relay.call import Call
from relay.callers import Caller
from relay.limits import MEETING_DEADLINE_S, RelayLimits
from relay.refusals import rate_exceeded
from relay.subscriptions import Subscriptions
from schemas.addresses import Address, read_addresses
from schemas.capnp_codec import blaming_the_peer
from schemas.errors import Fault, Refused, Unreachable
from schemas.ids import DeviceKey
from schemas.limits import ENDPOINT_ADDRESSES
from schemas.node_service import fill_addresses
from transport.rate import Buckets

MET: Final = "met"


class Rendezvous:
    """They raise Fault to refuse. `clock` gives seconds that only grow.

    `counters`: what became of meetings, by the true reason, which callers are not told.
    """

    def __init__(
        self, subscriptions: Subscriptions, limits: RelayLimits, clock: Callable[[], float]
    ) -> None:
        self._subscriptions = subscriptions
        self._clock = clock
        self._of_device = Buckets[DeviceKey](limits.meetings_rate, limits.meetings_burst)
        self._of_prefix = Buckets[bytes](limits.prefix_meetings_rate, limits.prefix_meetings_burst)
        self._with = Buckets[DeviceKey](limits.target_meetings_rate, limits.target_meetings_burst)
        self._stopping = asyncio.Event()
        self.counters: Counter[str] = Counter()

    async def observe_address(self, call: Call) -> None:
        with call.request():
            call.results.address = str(call.line.connection.remote)

    async def meet(self, call: Call) -> None:
        """Raises Refused `not-here`, TryLater `try-later`."""
        until = asyncio.get_running_loop().time() + MEETING_DEADLINE_S
        with call.request() as params:
            peer = DeviceKey(params.peerKey)
            addresses = read_addresses(params.addresses)
        self._admit(call.caller)
        try:
            async with asyncio.timeout_at(until):
                found = await self._ask(peer, call, addresses)
        except (Fault, TimeoutError) as fault:
            self.counters[fault.code if isinstance(fault, Fault) else "silent"] += 1
            await self._wait(until)
            raise Refused(
                "not-here",
                "that device cannot be met by this relay now",
                hint="what you send waits in its mailbox",
            ) from None
        self.counters[MET] += 1
        fill_addresses(call.results, found)

    def stop_waiting(self) -> None:
        """Answer whoever waits."""
        self._stopping.set()

    def _admit(self, caller: Caller) -> None:
        now = self._clock()
        buckets = [self._of_device.of(caller.device)]
        if caller.prefix is not None:
            buckets.append(self._of_prefix.of(caller.prefix))
        wait_s = max(bucket.wait_s(now) for bucket in buckets)
        if wait_s:
            raise rate_exceeded("meetings", wait_s)
        for bucket in buckets:
            bucket.use(1, now)

    async def _ask(
        self, peer: DeviceKey, call: Call, addresses: tuple[Address, ...]
    ) -> tuple[Address, ...]:
        """Where the peer is, which dials from now on. Raises Fault by the true reason."""
        subscription = self._subscriptions.latest(peer)
        if subscription is None:
            raise Unreachable("unknown", "it does not listen here")
        if not self._with.of(peer).take(self._clock()):
            raise Unreachable("too-many", "it is asked for too often")
        request = subscription.sink.meet_request()
        request.peer = bytes(call.device)
        fill_addresses(request, _beside(call.line.connection.remote, addresses))
        answer = await request.send()
        with blaming_the_peer("meeting"):
            found = read_addresses(answer.addresses)
        if not found:
            raise Unreachable("unwilling", "it does not want to")
        return _beside(subscription.line.connection.remote, found)

    async def _wait(self, until: float) -> None:
        try:
            async with asyncio.timeout_at(until):
                await self._stopping.wait()
        except TimeoutError:
            return


def _beside(seen: Address, told: tuple[Address, ...]) -> tuple[Address, ...]:
    """What somebody says of itself, and first what is seen here, which is newer."""
    return tuple(dict.fromkeys((seen, *told)))[:ENDPOINT_ADDRESSES]
