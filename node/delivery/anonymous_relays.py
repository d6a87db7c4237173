"""Connections to relays that name nobody: for parcels that we bring, and for what we look up.

Each recipient gets a socket, a key and connections of its own, so that a relay cannot tell by them
that two recipients belong together; after a few minutes there are new ones. What is about our own
mailbox goes over RelayPool, by our own key.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from node.delivery.limits import DeliveryLimits
from node.delivery.relay_client import RelayClient
from node.delivery.relay_pool import RelayPool
from node.delivery.setbacks import Setbacks
from schemas.addresses import RelayAddress
from schemas.errors import Fault, Unreachable
from schemas.ids import DeviceKey
from transport import DEFAULT_LIMITS, AnonymousEndpoint, TransportLimits
from transport.pauses import growing
from transport.supervise import Supervisor

log = logging.getLogger(__name__)

OpenAnonymous = Callable[[], Awaitable[AnonymousEndpoint]]


@dataclass(slots=True)
class _Guise:
    """Who we are to relays for one recipient, for a while."""

    endpoint: AnonymousEndpoint
    pool: RelayPool
    until: float  # then a new one is made
    used_at: float
    relay: DeviceKey  # used last
    users: Counter[DeviceKey] = field(default_factory=Counter)  # by relay
    unused: asyncio.Event = field(default_factory=asyncio.Event)

    def is_at(self, relay: DeviceKey) -> bool:
        """That relay has it, or had it last."""
        return relay in self.users if self.users else relay == self.relay

    def begin(self, relay: DeviceKey) -> None:
        self.users[relay] += 1
        self.relay = relay
        self.unused.clear()

    def end(self, relay: DeviceKey, now: float) -> None:
        self.users[relay] -= 1
        if not self.users[relay]:
            del self.users[relay]
        if not self.users:
            self.unused.set()
        self.used_at = now


@dataclass(slots=True)
class _Silence:
    """A relay that did not answer: nobody asks it again until then."""

    fault: Fault
    failures: int
    until: float


class AnonymousRelays:
    """`client` gives a connected relay, for the length of a block."""

    def __init__(
        self,
        open_anonymous: OpenAnonymous,
        limits: DeliveryLimits,
        counters: Counter[str],
        *,
        transport_limits: TransportLimits = DEFAULT_LIMITS,
    ) -> None:
        self._open_anonymous = open_anonymous
        self._limits = limits
        self._transport_limits = transport_limits
        self._counters = counters
        self._clock = asyncio.get_running_loop().time
        self._guises: dict[DeviceKey, _Guise] = {}
        self._silent: dict[RelayAddress, _Silence] = {}
        self._unanswered = Setbacks(limits)  # or each guise would dial first what is dead
        self._opening = asyncio.Lock()
        self._free = asyncio.Event()
        self._tasks = Supervisor(lambda name: counters.update([f"{name}-crashed"]))
        self._tidying: asyncio.Task[None] | None = None
        self._closing = False

    @asynccontextmanager
    async def client(
        self, address: RelayAddress, owner: DeviceKey, *, eager: bool = False
    ) -> AsyncIterator[RelayClient]:
        """The relay, for what is `owner`'s. Raises as RelayPool.client."""
        relay = address.device
        guise = await self._guise(owner, relay)
        guise.begin(relay)
        try:
            yield await self._connected(guise, address, owner, eager=eager)
        finally:
            guise.end(relay, self._clock())
            self._free.set()

    async def _connected(
        self, guise: _Guise, address: RelayAddress, owner: DeviceKey, *, eager: bool
    ) -> RelayClient:
        silent = self._silent.get(address)
        if (
            silent is not None
            and silent.until > self._clock()
            and not eager
            and not guise.pool.connected(address)
        ):
            raise silent.fault.with_traceback(None)
        try:
            # How long it is left alone is said here, for all guises: a guise's own pause may be
            # the longer one, and whoever met that would be refused without anybody having dialled.
            client = await guise.pool.client(address, owner=owner, eager=True)
        except Fault as fault:
            failures = 0 if silent is None else silent.failures
            limits = self._limits
            pause = growing(limits.relay_retry_first_s, failures, limits.relay_retry_last_s)
            until = self._clock() + pause
            self._silent[address] = _Silence(fault, failures + 1, until)
            while len(self._silent) > limits.relays_at_once:
                del self._silent[next(iter(self._silent))]
            raise
        self._silent.pop(address, None)
        return client

    def connected(self, address: RelayAddress) -> bool:
        return any(guise.pool.connected(address) for guise in self._guises.values())

    def why_not(self, address: RelayAddress) -> str | None:
        """The code of the last failure to connect; None if it was not tried, or went well."""
        silent = self._silent.get(address)
        return None if silent is None else silent.fault.code

    def network_changed(self) -> None:
        """On another network the sockets are of no use, and would tie it to the last one."""
        self._silent.clear()
        self._unanswered.clear()
        for owner in list(self._guises):
            self._retire(owner)
        self._free.set()

    async def close(self) -> None:
        self._closing = True
        self._free.set()
        for owner in list(self._guises):
            self._retire(owner)
        if self._tidying is not None:
            self._tidying.cancel()
        await self._tasks.close(self._limits.flush_s)

    # --- guises

    async def _guise(self, owner: DeviceKey, relay: DeviceKey) -> _Guise:
        """Who has one there never waits for room, and nobody waits for another relay's."""
        while True:
            guise = self._ready(owner, relay)
            if guise is not None:
                return guise
            async with self._opening:
                guise = self._ready(owner, relay) or await self._opened(owner, relay)
                if guise is not None:
                    return guise
                self._free.clear()
            await self._free.wait()

    def _ready(self, owner: DeviceKey, relay: DeviceKey) -> _Guise | None:
        guise = self._guises.get(owner)
        if guise is None or self._clock() >= guise.until:
            return None
        return guise if guise.is_at(relay) or self._has_room_at(relay) else None

    async def _opened(self, owner: DeviceKey, relay: DeviceKey) -> _Guise | None:
        """A new one; None when there is no room. Raises Unreachable."""
        if self._closing:
            raise Unreachable("stopping", "the node is stopping")
        guise = self._guises.get(owner)
        if guise is not None:
            if self._clock() < guise.until:
                return None  # it waits for room at the relay
            self._retire(owner)
        if not self._has_room_at(relay) or not self._has_room():
            return None
        guise = self._guises[owner] = await self._made(relay)
        if self._tidying is None:
            self._tidying = self._tasks.start(self._tidy(), name="anonymous-relays")
        return guise

    async def _made(self, relay: DeviceKey) -> _Guise:
        limits = self._limits
        try:
            endpoint = await self._open_anonymous()
        except OSError as error:
            raise Unreachable("cannot-bind", f"no socket: {error}") from error
        pool = RelayPool(
            endpoint,
            endpoint.device,
            limits,
            self._counters,
            transport_limits=self._transport_limits,
            unanswered=self._unanswered,
        )
        now = self._clock()
        life_s = limits.guise_life_s * random.uniform(0.5, 1.0)  # noqa: S311 - not all together
        guise = _Guise(endpoint, pool, now + life_s, now, relay)
        guise.unused.set()
        return guise

    def _has_room_at(self, relay: DeviceKey) -> bool:
        """For one more: a relay that is slow holds no more than its share. Made, if need be."""
        there = [owner for owner, guise in self._guises.items() if guise.is_at(relay)]
        return len(there) < self._limits.guises_at_relay or self._retire_idle(there)

    def _has_room(self) -> bool:
        """For one more; made, if need be."""
        return len(self._guises) < self._limits.guises_at_once or self._retire_idle(self._guises)

    def _retire_idle(self, owners: Iterable[DeviceKey]) -> bool:
        """The one of these that was not used for the longest time; whether there was any."""
        idle = [owner for owner in owners if not self._guises[owner].users]
        if not idle:
            return False
        self._retire(min(idle, key=lambda owner: self._guises[owner].used_at))
        return True

    def _retire(self, owner: DeviceKey) -> None:
        self._tasks.start(self._end(self._guises.pop(owner)), name="guise")

    async def _end(self, guise: _Guise) -> None:
        """Calls that run are answered first."""
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0 if self._closing else self._limits.relay_call_s):
                    await guise.unused.wait()
        finally:
            await guise.pool.close()
            await guise.endpoint.close()

    async def _tidy(self) -> None:
        """For ever: those whose time is over, or that nobody uses, go."""
        while True:
            await asyncio.sleep(self._limits.guise_look_s)
            now = self._clock()
            for owner, guise in list(self._guises.items()):
                idle = not guise.users and now - guise.used_at >= self._limits.guise_idle_s
                if idle or (now >= guise.until and not guise.users):
                    self._retire(owner)
