"""Those who write and those who read, each role in a process of its own; told what to do by lines.

python -m tests.soak.relay.people (senders|readers) RELAY KEY…

`KEY…` are the readers' seeds in hex. Every line on standard input is answered with one of JSON:
`rate N` (parcels a second of all senders together; `inf`: as fast as they are taken; 0: none),
`tell` (figures since the last `tell`), `end` (all that was begun is finished; what became of it).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import random
import sys
import time
from collections import Counter
from typing import Any, Final, Protocol

import transport
from identity.keys import KeyPair, device_from_seed, new_seed
from node.delivery.limits import DEFAULT_DELIVERY_LIMITS
from node.delivery.relay_client import RelayClient
from node.delivery.relay_pool import RelayPool
from schemas.addresses import Address, RelayAddress
from schemas.errors import Fault
from schemas.frames import ErrorFrame
from schemas.ids import DeviceKey
from schemas.node_service import EnqueueItem, StoredParcel
from tests.soak.relay.ledger import (
    ACKNOWLEDGED,
    ACKNOWLEDGED_LATER,
    UNDER_WAY,
    Marks,
    Parcel,
    Reading,
)

SENDERS: Final = 16
AT_ONCE: Final = 8  # parcels under way of each sender
ACK_AT_ONCE: Final = 256
AGAIN_S: Final = 0.1
_DAY_S: Final = 86_400
_ANYWHERE: Final = transport.Address("127.0.0.1", 0)


class Times:
    """How long something took, in seconds, since it was last told."""

    def __init__(self) -> None:
        self._seconds: list[float] = []

    def since(self, due: float) -> None:
        self._seconds.append(time.monotonic() - due)

    def tell(self) -> dict[str, float]:
        ordered, self._seconds = sorted(self._seconds), []
        shares = {"p50_ms": 0.5, "p99_ms": 0.99, "max_ms": 1.0}
        last = len(ordered) - 1
        found = {name: 1000 * ordered[int(last * share)] for name, share in shares.items()} if (
            ordered
        ) else dict.fromkeys(shares, 0.0)  # fmt: skip
        return {"count": len(ordered), **found}


class Role(Protocol):
    """What both do."""

    def rate(self, per_s: float) -> None: ...
    def tell(self) -> dict[str, Any]: ...
    async def end(self) -> dict[str, Any]: ...


@contextlib.asynccontextmanager
async def _pool(device: KeyPair[DeviceKey], counters: Counter[str]) -> Any:
    endpoint = await transport.Endpoint.open(device.private, _ANYWHERE, handlers={})
    pool = RelayPool(endpoint, device.public, DEFAULT_DELIVERY_LIMITS, counters)
    try:
        yield pool
    finally:
        await pool.close()
        await endpoint.close()


class Pace:
    """When the next parcel is due: an open loop, which does not wait for who is slow.

    Who comes late sends at once, and its parcel's time counts from when it was due.
    """

    def __init__(self) -> None:
        self._rate = 0.0
        self._next = 0.0
        self._changed = asyncio.Event()
        self._turn = asyncio.Lock()
        self.over = False

    def set(self, per_s: float) -> None:
        self._rate, self._next = per_s, time.monotonic()
        self._changed.set()

    def stop(self) -> None:
        self.over = True
        self._changed.set()

    async def due(self) -> float:
        """Returns then; meaningless when it is `over`."""
        async with self._turn:
            while not self.over:
                self._changed.clear()
                if math.isinf(self._rate):
                    return time.monotonic()
                wait_s = self._next - time.monotonic() if self._rate else _DAY_S
                if wait_s <= 0:
                    due = self._next
                    self._next += random.expovariate(self._rate)
                    return due
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(wait_s):
                        await self._changed.wait()
        return 0.0


class Senders:
    """SENDERS devices, AT_ONCE parcels of each under way."""

    def __init__(self, relay: RelayAddress, readers: list[DeviceKey]) -> None:
        self._relay = relay
        self._readers = readers
        self._pace = Pace()
        self._marks = Marks()
        self._times = Times()
        self._faults: Counter[str] = Counter()
        self._ready = 0
        self._tasks = [asyncio.create_task(self._sender(number)) for number in range(SENDERS)]

    def rate(self, per_s: float) -> None:
        self._pace.set(per_s)

    def tell(self) -> dict[str, Any]:
        return {**self._times.tell(), "ready": self._ready, "faults": dict(self._faults)}

    async def end(self) -> dict[str, Any]:
        self._pace.stop()
        await asyncio.gather(*self._tasks)
        return self._marks.to_json()

    async def _sender(self, number: int) -> None:
        serials = iter(range(1 << 62))
        async with _pool(device_from_seed(new_seed()), Counter()) as pool:
            while not await self._connected(pool):
                await asyncio.sleep(AGAIN_S)
            self._ready += 1

            async def send() -> None:
                while True:
                    due = await self._pace.due()
                    if self._pace.over:
                        return
                    await self._bring(pool, Parcel(number, next(serials), due))

            async with asyncio.TaskGroup() as tasks:
                for _ in range(AT_ONCE):
                    tasks.create_task(send())

    async def _connected(self, pool: RelayPool) -> bool:
        try:
            await pool.client(self._relay, eager=True)
        except Fault:
            return False
        return True

    async def _bring(self, pool: RelayPool, parcel: Parcel) -> None:
        """Until it is acknowledged, as a node does; at whichever process answers."""
        recipient = self._readers[parcel.reader(len(self._readers))]
        item = EnqueueItem(recipient, parcel.id, int(time.time()) + _DAY_S, parcel.sealed)
        self._marks[parcel] = UNDER_WAY
        asked, acknowledged = False, ACKNOWLEDGED
        while True:
            try:
                # By the sender's own process: half of the readers are at the other one.
                client = await pool.client(self._relay)
                acknowledged = ACKNOWLEDGED_LATER if asked else ACKNOWLEDGED
                asked = True
                [outcome] = await client.enqueue([item])
            except Fault as fault:
                self._faults[fault.code] += 1
                await asyncio.sleep(AGAIN_S)
                continue
            if not isinstance(outcome, ErrorFrame):
                break
            self._faults[outcome.code] += 1
            await asyncio.sleep(max(AGAIN_S, outcome.retry_after_ms / 1000))
        self._marks[parcel] = acknowledged
        self._times.since(parcel.due)


class Readers:
    """Each is subscribed to its mailbox, and again when its process is gone."""

    def __init__(self, relay: RelayAddress, devices: list[KeyPair[DeviceKey]]) -> None:
        self._relay = relay
        self._reading = Reading(len(devices))
        self._times = Times()
        self._faults: Counter[str] = Counter()
        self._mailboxes: dict[int, _Mailbox] = {}
        self._tasks = [
            asyncio.create_task(self._reader(number, device))
            for number, device in enumerate(devices)
        ]

    def rate(self, per_s: float) -> None:
        """They take what comes."""

    def tell(self) -> dict[str, Any]:
        ready = sum(each.subscribed for each in self._mailboxes.values())
        return {**self._times.tell(), "ready": ready, "faults": dict(self._faults)}

    async def end(self) -> dict[str, Any]:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        return self._reading.to_json()

    async def _reader(self, number: int, device: KeyPair[DeviceKey]) -> None:
        async with _pool(device, Counter()) as pool:
            pool.keep = (self._relay,)
            while True:
                try:
                    client = await pool.client(self._relay, eager=True)
                    mailbox = _Mailbox(number, client, self._reading, self._times)
                    self._mailboxes[number] = mailbox
                    await mailbox.read()
                except Fault as fault:
                    self._faults[fault.code] += 1
                    await asyncio.sleep(AGAIN_S)


class _Mailbox:
    """A reader's subscription, for as long as its connection lives."""

    def __init__(self, reader: int, client: RelayClient, reading: Reading, times: Times) -> None:
        self._reader = reader
        self._client = client
        self._reading = reading
        self._times = times
        self._taken: list[StoredParcel] = []
        self._some = asyncio.Event()
        self.subscribed = False

    async def read(self) -> None:
        """Returns when the connection is over; raises its Faults."""
        await self._client.subscribe(0, self)  # whatever is there still, also what was pushed once
        self.subscribed = True
        acknowledging = asyncio.create_task(self._acknowledge())
        closed = asyncio.create_task(self._client.connection.wait_closed())
        try:
            await asyncio.wait({acknowledging, closed}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (acknowledging, closed):
                task.cancel()
            found = await asyncio.gather(acknowledging, closed, return_exceptions=True)
        for fault in found:
            if isinstance(fault, Fault):
                self._client.connection.close_now()
                raise fault

    async def _acknowledge(self) -> None:
        while True:
            await self._some.wait()
            self._some.clear()
            while self._taken:
                some, self._taken = self._taken[:ACK_AT_ONCE], self._taken[ACK_AT_ONCE:]
                await self._client.ack([each.sequence for each in some])
                for each in some:
                    self._reading.done(each)

    async def take(self, parcels: tuple[StoredParcel, ...]) -> None:
        for each in parcels:
            parcel = self._reading.arrived(self._reader, each)
            if parcel is not None:
                self._times.since(parcel.due)
        self._taken += parcels
        self._some.set()

    def observed(self, address: Address) -> None:
        """Nothing follows from where it is."""

    async def meet(self, device: DeviceKey, addresses: tuple[Address, ...]) -> tuple[Address, ...]:
        return ()


async def _main(role: str, relay: RelayAddress, seeds: list[bytes]) -> None:
    devices = [device_from_seed(seed) for seed in seeds]
    loop = asyncio.get_running_loop()
    async with transport.kj_loop():
        people: Role = (
            Senders(relay, [device.public for device in devices])
            if role == "senders"
            else Readers(relay, devices)
        )
        while line := (await loop.run_in_executor(None, sys.stdin.readline)).split():
            match line:
                case ["rate", per_s]:
                    people.rate(float(per_s))
                    answer = {}
                case ["tell"]:
                    answer = people.tell()
                case _:
                    answer = await people.end()
            print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    asyncio.run(
        _main(sys.argv[1], RelayAddress.parse(sys.argv[2]), list(map(bytes.fromhex, sys.argv[3:])))
    )
