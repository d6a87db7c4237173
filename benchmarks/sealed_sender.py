"""What it costs to name nobody: parcels for many by guises, beside one connection of our own; and
what a delivery token costs the relay's store.

A relay in a process of its own gets one parcel for each of 10 or 100 recipients who are away, over
one connection (as before), then over a socket, a key and a handshake for each. CPU is that of both
ends, for one recipient. The spread in time is left out of these two, and measured by itself.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import transport
from benchmarks.process import cpu_s
from benchmarks.relay import ROOT, running_relay
from benchmarks.report import Row
from identity.delivery_token import token_hash
from identity.keys import device_from_seed, new_seed
from node.delivery.anonymous_relays import AnonymousRelays
from node.delivery.departures import Departures
from node.delivery.limits import DEFAULT_DELIVERY_LIMITS
from node.delivery.relay_pool import RelayPool
from relay.store.contract import Quotas
from relay.store.sqlite.store import SqliteStore
from schemas.addresses import RelayAddress
from schemas.ids import DeviceKey, ParcelId
from schemas.node_service import Enqueued, EnqueueItem

LIMITS = DEFAULT_DELIVERY_LIMITS
PARCEL_BYTES = 2_300  # a short message in its envelope
RECIPIENTS = (10, 100)
SENDERS = 64  # enqueues under way at the store
_ANYWHERE = transport.Address("127.0.0.1", 0)


@dataclass(frozen=True, slots=True)
class Cost:
    """Seconds for all; CPU milliseconds of node and relay together, for each."""

    seconds: float
    cpu_ms: float


def rows(quick: bool) -> list[Row]:
    found = []
    for count in RECIPIENTS:
        own, guises = [], []
        for _ in range(1 if quick else 5):  # alternating
            own.append(_measure(count, anonymous=False))
            guises.append(_measure(count, anonymous=True))
        name = f"sealed sender, {count} recipients who are away"
        beside = "one connection of our own"
        before, after = min(each.seconds for each in own), min(each.seconds for each in guises)
        found.append(Row(name, after, "s", before, beside, None))
        before, after = min(each.cpu_ms for each in own), min(each.cpu_ms for each in guises)
        found.append(Row(f"{name}, CPU of both ends", after, "ms each", before, beside, None))
    first, last = _spread(10 if quick else 50)
    found.append(
        Row("sealed sender, spread: the first of 4 recipients", first, "s", None, "", None)
    )
    found.append(Row("sealed sender, spread: the last of 4 recipients", last, "s", None, "", None))
    bare, token = [], []
    for _ in range(1 if quick else 5):
        bare.append(asyncio.run(_store(0.5 if quick else 2.0, token=False)))
        token.append(asyncio.run(_store(0.5 if quick else 2.0, token=True)))
    found.append(
        Row(
            "store, enqueue with a delivery token",
            max(token),
            "parcels/s",
            max(bare),
            "without",
            None,
        )
    )
    return found


def _measure(count: int, *, anonymous: bool) -> Cost:
    with (
        tempfile.TemporaryDirectory(dir=ROOT / "target") as folder,
        running_relay(Path(folder)) as (relay, pid),
    ):
        return asyncio.run(_bring(relay, pid, count, anonymous=anonymous))


async def _bring(relay: RelayAddress, pid: int, count: int, *, anonymous: bool) -> Cost:
    async with transport.kj_loop(), AsyncExitStack() as stack:
        device = device_from_seed(new_seed())
        endpoint = await transport.Endpoint.open(device.private, _ANYWHERE, handlers={})
        stack.push_async_callback(endpoint.close)
        pool = RelayPool(endpoint, device.public, LIMITS, Counter())
        stack.push_async_callback(pool.close)
        await pool.client(relay)  # our own mailbox is read anyway
        guises = AnonymousRelays(_open_anonymous, LIMITS, Counter())
        stack.push_async_callback(guises.close)

        async def bring() -> None:
            recipient = DeviceKey(os.urandom(32))
            if anonymous:
                async with guises.client(relay, recipient) as client:
                    [outcome] = await client.enqueue([_item(recipient)])
            else:
                [outcome] = await (await pool.client(relay)).enqueue([_item(recipient)])
            assert isinstance(outcome, Enqueued)

        spent, begun = time.process_time() + cpu_s(pid), time.perf_counter()
        await asyncio.gather(*(bring() for _ in range(count)))
        took = time.perf_counter() - begun
        return Cost(took, (time.process_time() + cpu_s(pid) - spent) * 1000 / count)


async def _open_anonymous() -> transport.AnonymousEndpoint:
    return await transport.AnonymousEndpoint.open_anonymous(_ANYWHERE)


def _item(recipient: DeviceKey, token: bytes = b"") -> EnqueueItem:
    expires = int(time.time()) + 86_400
    parcel = ParcelId(os.urandom(16))
    return EnqueueItem(recipient, parcel, expires, os.urandom(PARCEL_BYTES), token=token)


def _spread(times: int) -> tuple[float, float]:
    """Mean seconds until the first and the last of four recipients have their turn."""
    first, last = 0.0, 0.0
    for _ in range(times):
        departures = Departures(LIMITS.spread_s, lambda: 0.0)
        waits = [departures.wait_s(DeviceKey(os.urandom(32))) for _ in range(4)]
        first, last = first + min(waits), last + max(waits)
    return first / times, last / times


async def _store(seconds: float, *, token: bool) -> float:
    """Parcels per second into the store, SENDERS under way, each to a mailbox of its own."""
    with tempfile.TemporaryDirectory(dir=ROOT / "target") as folder:
        quotas = Quotas(mailbox_parcels=1_000_000)
        store = await SqliteStore.open(Path(folder) / "relay.db", quotas)
        boxes = [(DeviceKey(os.urandom(32)), os.urandom(32)) for _ in range(SENDERS)]
        now = int(time.time())
        for device, secret in boxes if token else ():
            hashes = [token_hash(secret), *(os.urandom(32) for _ in range(50))]
            await store.delivery_tokens.set(device, hashes, optional=False, now=now)
        until, kept = time.perf_counter() + seconds, 0

        async def send(device: DeviceKey, secret: bytes) -> None:
            nonlocal kept
            while time.perf_counter() < until:
                [outcome] = await store.enqueue([_item(device, secret if token else b"")], now=now)
                assert isinstance(outcome, Enqueued)
                kept += 1

        await asyncio.gather(*(send(*box) for box in boxes))
        await store.close()
        return kept / seconds
