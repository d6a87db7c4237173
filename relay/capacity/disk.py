"""What the disk and the store take, without any network."""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import dataclass
from pathlib import Path

from relay.store.contract import Quotas
from relay.store.sqlite.store import SqliteStore
from schemas.ids import DeviceKey, ParcelId
from schemas.node_service import EnqueueItem

PARCEL_BYTES = 2_048  # a short message in its envelope, padded
BLOCK_BYTES = 4_096
MOST_SYNCS = 1_000
RECIPIENTS = 256


@dataclass(frozen=True, slots=True)
class Rate:
    """Parcels acknowledged a second, and the time of one in milliseconds."""

    per_s: float
    p50_ms: float
    p99_ms: float


def rate_of(times_s: list[float], wall_s: float, parcels: int = 1) -> Rate:
    ordered = sorted(times_s) or [0.0]
    p50, p99 = (ordered[int(len(ordered) * share)] * 1000 for share in (0.5, 0.99))
    return Rate(len(times_s) * parcels / wall_s, p50, p99)


def fsync_rate(folder: Path, seconds: float) -> Rate:
    """A block appended and synced, again and again."""
    times: list[float] = []
    until = time.perf_counter() + seconds
    file = os.open(folder / "fsync", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        begun = time.perf_counter()
        while time.perf_counter() < until and len(times) < MOST_SYNCS:
            os.write(file, b"\0" * BLOCK_BYTES)
            before = time.perf_counter()
            os.fdatasync(file)
            times.append(time.perf_counter() - before)
        return rate_of(times, time.perf_counter() - begun)
    finally:
        os.close(file)


async def store_rate(folder: Path, senders: int, seconds: float) -> Rate:
    """Parcels into a store of its own in `folder`, `senders` at a time, each durable."""
    quotas = Quotas(mailbox_parcels=10**6, mailbox_bytes=2**40, strangers_share=1.0)
    store = await SqliteStore.open(folder / f"store-{senders}.db", quotas)
    times: list[float] = []
    now = int(time.time())
    recipients = [DeviceKey(os.urandom(32)) for _ in range(RECIPIENTS)]
    sealed = os.urandom(PARCEL_BYTES)
    until = time.perf_counter() + seconds

    async def send(first: int) -> None:
        number = first
        while time.perf_counter() < until:
            recipient = recipients[number % RECIPIENTS]
            item = EnqueueItem(recipient, ParcelId(os.urandom(16)), now + 3600, sealed)
            before = time.perf_counter()
            await store.enqueue([item], now=now)
            times.append(time.perf_counter() - before)
            number += senders

    try:
        begun = time.perf_counter()
        async with asyncio.TaskGroup() as tasks:
            for sender in range(senders):
                tasks.create_task(send(sender))
        return rate_of(times, time.perf_counter() - begun)
    finally:
        await store.close()
