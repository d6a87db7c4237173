"""Who is connected, and how much each may use: caps and rates by connection, device and prefix."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from relay.limits import RelayLimits
from relay.memory import Memory
from relay.places import Places, too_many_connections
from relay.refusals import TryLater, rate_exceeded
from relay.store.contract import MailboxName
from schemas.ids import DeviceKey
from schemas.node_service import EnqueueItem
from transport.admission import prefix_of
from transport.rate import Buckets, TokenBucket

if TYPE_CHECKING:
    from relay.subscriptions import Subscription

REMEMBERED_DEVICES = 100_000  # 32 bytes each: not newcomers when they come again
NEWCOMER_RETRY_MS = 60_000


class Caller:
    """One connection: whose it is, what it has used, and what ends with it."""

    def __init__(
        self,
        device: DeviceKey,
        prefix: bytes | None,
        calls: tuple[TokenBucket, ...],
        volume: tuple[TokenBucket, ...],
        clock: Callable[[], float],
        memory: Memory,
    ) -> None:
        self.device = device
        self.memory = memory
        self.prefix = prefix
        self._calls = calls
        self._bytes = volume
        self._buckets = calls + volume
        self._clock = clock
        self._tasks: set[asyncio.Task[None]] = set()
        self.used_at = clock()  # it came, or made a call
        self.waits = 0  # fetchWait calls that run
        self.introduced = False
        self.registered = False  # its device is one of an account, and was when last looked at
        self.hang_up: Callable[[str], None] = lambda _: None  # close the connection, for a reason
        self.opened: set[MailboxName] = set()
        self.told_refusal: dict[MailboxName, int] = {}  # `refusedSince` as this connection saw it
        self.taking: dict[MailboxName, asyncio.Task[None]] = {}  # deletions of what was fetched
        self.subscriptions: dict[MailboxName, Subscription] = {}

    def admit(self) -> None:
        """Let one call in. Raises TryLater `try-later` when a rate is exceeded."""
        now = self._clock()
        wait_s = max([bucket.wait_s(now) for bucket in self._buckets])
        if wait_s:
            raise rate_exceeded("calls or bytes", wait_s)
        self.used_at = now
        for bucket in self._calls:
            bucket.use(1, now)

    def use(self, *, calls: int = 0, size: int = 0) -> None:
        """Write down what a call has cost besides itself."""
        now = self._clock()
        if calls:
            for bucket in self._calls:
                bucket.use(calls, now)
        if size:
            for bucket in self._bytes:
                bucket.use(size, now)

    def forget(self) -> None:
        """Nothing of its device is kept any more; whether to keep anything is asked anew."""
        self.introduced = self.registered = False
        self.opened.clear()

    def start(self, work: Coroutine[None, None, None], name: str) -> asyncio.Task[None]:
        """Run `work`, which raises nothing, for as long as the connection lives at most."""
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def settle(self) -> None:
        """The connection is over: end what ran for it."""
        tasks = set(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class Callers:
    """All of them. `clock` gives seconds that only grow."""

    def __init__(self, limits: RelayLimits, clock: Callable[[], float]) -> None:
        self.limits = limits
        self._clock = clock
        self._places = Places(limits)
        self.memory = Memory(limits.memory_bytes)
        self._shares = WeakValueDictionary[bytes, Memory]()  # of the memory, by prefix
        self._devices: dict[DeviceKey, list[Caller]] = {}
        self._device_calls = Buckets[DeviceKey](limits.device_calls_rate, limits.device_calls_burst)
        self._device_bytes = Buckets[DeviceKey](limits.device_bytes_rate, limits.device_bytes_burst)
        self._prefix_calls = Buckets[bytes](limits.prefix_calls_rate, limits.prefix_calls_burst)
        self._prefix_bytes = Buckets[bytes](limits.prefix_bytes_rate, limits.prefix_bytes_burst)
        self._mailboxes = Buckets[MailboxName](
            limits.mailbox_parcels_rate, limits.mailbox_parcels_burst
        )
        self._newcomers = Buckets[bytes](limits.newcomers_rate, limits.newcomers_burst)
        self._token_parcels = Buckets[bytes](limits.token_parcels_rate, limits.token_parcels_burst)
        self._token_bytes = Buckets[bytes](limits.token_bytes_rate, limits.token_bytes_burst)
        self._seen: OrderedDict[DeviceKey, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._places)

    def of(self, device: DeviceKey) -> list[Caller]:
        """The device's connections."""
        return list(self._devices.get(device, ()))

    def devices(self) -> set[DeviceKey]:
        """That are connected."""
        return set(self._devices)

    def registered(self) -> set[DeviceKey]:
        """Devices that are connected, and were in an account when last looked at."""
        return {
            device
            for device, callers in self._devices.items()
            if any(caller.registered for caller in callers)
        }

    @contextmanager
    def connected(self, device: DeviceKey, host: str) -> Iterator[Caller]:
        """A connection for the length of the block; `host` is where it came from.

        Raises TryLater `too-many-connections`.
        """
        prefix = prefix_of(host)
        limits = self.limits
        if len(self._devices.get(device, ())) >= limits.connections_per_device:
            raise too_many_connections()
        calls = [
            TokenBucket(limits.connection_calls_rate, limits.connection_calls_burst),
            self._device_calls.of(device),
        ]
        volume = [
            TokenBucket(limits.connection_bytes_rate, limits.connection_bytes_burst),
            self._device_bytes.of(device),
        ]
        if prefix is not None:
            calls.append(self._prefix_calls.of(prefix))
            volume.append(self._prefix_bytes.of(prefix))
        memory = self._memory_for(prefix)
        caller = Caller(device, prefix, tuple(calls), tuple(volume), self._clock, memory)
        self._places.enter(caller)
        self._devices.setdefault(device, []).append(caller)
        try:
            yield caller
        finally:
            self._places.leave(caller)
            self._devices[device].remove(caller)
            if not self._devices[device]:
                del self._devices[device]

    def _memory_for(self, prefix: bytes | None) -> Memory:
        if prefix is None:
            return self.memory
        share = self._shares.get(prefix)
        if share is None:
            most = int(self.limits.memory_bytes * self.limits.prefix_memory_share)
            share = self._shares[prefix] = Memory(most, of=self.memory)
        return share

    def check_brought(self, item: EnqueueItem) -> None:
        """Before the store judges a parcel. It costs nothing: who has no delivery token must not
        use up what those who have one may bring.

        Raises TryLater `try-later` when too much was kept of what came with this token, or to this
        mailbox.
        """
        now = self._clock()
        if item.token:
            by = item.recipient + item.token
            wait_s = max(self._token_parcels.wait_s(by, now), self._token_bytes.wait_s(by, now))
            if wait_s:
                raise rate_exceeded("parcels or bytes with this delivery token", wait_s)
        wait_s = self._mailboxes.wait_s(MailboxName(item.recipient, item.channel), now)
        if wait_s:
            raise rate_exceeded("parcels for one mailbox", wait_s)

    def use_brought(self, item: EnqueueItem) -> None:
        """A parcel was kept."""
        now = self._clock()
        if item.token:
            by = item.recipient + item.token
            self._token_parcels.of(by).use(1, now)
            self._token_bytes.of(by).use(len(item.sealed), now)
        self._mailboxes.of(MailboxName(item.recipient, item.channel)).use(1, now)

    def introduce(self, caller: Caller) -> None:
        """Before something of a device that is in no account is kept for long.

        Raises TryLater `try-later`, `too-many-connections`.
        """
        if caller.introduced:
            return
        now = self._clock()
        newcomers = None
        if caller.prefix is not None and caller.device not in self._seen:
            newcomers = self._newcomers.of(caller.prefix)
        if newcomers is not None and newcomers.wait_s(now):
            raise TryLater(
                "try-later",
                "too many new devices from one place",
                retry_after_ms=NEWCOMER_RETRY_MS,
                hint="it goes on by itself, later",
            )
        self.keep(caller, registered=False)
        if newcomers is not None:
            newcomers.use(1, now)
        self._seen[caller.device] = None
        self._seen.move_to_end(caller.device)
        if len(self._seen) > REMEMBERED_DEVICES:
            self._seen.popitem(last=False)

    def keep(self, caller: Caller, *, registered: bool) -> None:
        """Something may be kept for it; `registered`: it is one of an account's devices.

        Raises TryLater `too-many-connections`, not for a registered one.
        """
        self._places.keep(caller, registered=registered)
        caller.registered = registered
        caller.introduced = True
