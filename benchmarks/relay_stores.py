"""What a relay's store acknowledges durably, on SQLite and on PostgreSQL, beside the usual ways.

Senders call the store in this process, each with one parcel at a time, to 256 mailboxes. Beside it,
on the same server with the same settings: PostgreSQL driven bare, a transaction per message from a
pool of 32 connections (asyncpg), into a table with the same key and nothing else to look after.
And NATS JetStream with `sync_interval: always`, where there is one: see benchmarks/nats.py. All
write to one disk: TMPDIR's.

The rounds alternate, and of each the median counts. Then the drain: a mailbox of 10,000 parcels
read in portions of 256 KiB and acknowledged as a node does.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg

from benchmarks.nats import HOW_TO_GET_IT, find_nats, jetstream
from benchmarks.report import Row
from relay.machine import FORGETFUL, filesystem_of
from relay.store.contract import MailboxName, Quotas, RelayStore
from relay.store.postgres.store import PostgresStore
from relay.store.sqlite.store import SqliteStore
from schemas.ids import DeviceKey, ParcelId
from schemas.limits import KIB
from schemas.node_service import Enqueued, EnqueueItem
from tests.relay.postgres import PostgresServer

SENDERS = (1, 16, 64, 256)
PARCEL_BYTES = 400
MAILBOXES = 256
POOL = 32  # more connections did not help a server on two cores
NOW = 1_800_000_000
BARE_TARGET, NATS_TARGET, TARGET_SENDERS = 1.5, 3.0, 64
SQLITE, POSTGRES, BARE, NATS = "SQLite", "PostgreSQL", "bare PostgreSQL", "NATS JetStream"
_FAR = 10**9
_QUOTAS = Quotas(mailbox_parcels=_FAR, mailbox_bytes=10**14, total_bytes=10**15)

Send = Callable[[EnqueueItem], Awaitable[object]]


@dataclass(slots=True)
class Load:
    """One candidate at one number of senders; a value per round."""

    rates: list[float] = field(default_factory=list)  # acknowledged per second
    p50_ms: list[float] = field(default_factory=list)
    p99_ms: list[float] = field(default_factory=list)

    @property
    def rate(self) -> float:
        return statistics.median(self.rates)

    @property
    def times(self) -> str:
        p50, p99 = statistics.median(self.p50_ms), statistics.median(self.p99_ms)
        return f"p50 {p50:.1f} ms, p99 {p99:.1f} ms"


def _parcel(recipient: DeviceKey, sealed: bytes) -> EnqueueItem:
    return EnqueueItem(recipient, ParcelId(os.urandom(16)), NOW + 86400, sealed)


async def _drive(send: Send, senders: int, seconds: float, load: Load) -> None:
    """Closed loop: each sender brings the next parcel when the last one is acknowledged."""
    boxes = [DeviceKey(os.urandom(32)) for _ in range(MAILBOXES)]
    sealed = os.urandom(PARCEL_BYTES)
    times: list[float] = []
    begun = time.perf_counter()

    async def one(number: int) -> None:
        turn = number
        while time.perf_counter() < begun + seconds:
            turn += senders
            item = _parcel(boxes[turn % MAILBOXES], sealed)
            asked = time.perf_counter()
            await send(item)
            times.append(time.perf_counter() - asked)

    await asyncio.gather(*(one(number) for number in range(senders)))
    load.rates.append(len(times) / (time.perf_counter() - begun))
    times.sort()
    load.p50_ms.append(times[len(times) // 2] * 1000)
    load.p99_ms.append(times[len(times) * 99 // 100] * 1000)


def _into(store: RelayStore) -> Send:
    async def send(item: EnqueueItem) -> None:
        [outcome] = await store.enqueue([item], now=NOW)
        assert isinstance(outcome, Enqueued)

    return send


@asynccontextmanager
async def _bare(url: str) -> AsyncIterator[Send]:
    async with asyncpg.create_pool(url, min_size=POOL, max_size=POOL) as pool:
        await pool.execute(
            "CREATE TABLE parcels (recipient bytea, id bytea, expires bigint, sealed bytea,"
            " PRIMARY KEY (recipient, id))"
        )

        async def send(item: EnqueueItem) -> None:
            await pool.execute(
                "INSERT INTO parcels VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
                *(bytes(item.recipient), bytes(item.id), item.expires, item.sealed),
            )

        yield send


@asynccontextmanager
async def _nats(program: Path, folder: Path) -> AsyncIterator[Send]:
    async with jetstream(program, folder) as publish:

        async def send(item: EnqueueItem) -> None:
            await publish(bytes(item.recipient), item.sealed)

        yield send


def _check_disk(*folders: Path) -> None:
    """Raises RuntimeError where files forget, or the candidates would write to different disks."""
    kinds = {filesystem_of(folder) for folder in folders}
    if kinds & set(FORGETFUL) or len({folder.stat().st_dev for folder in folders}) > 1:
        raise RuntimeError(f"{kinds}: set TMPDIR to a folder on a disk that all can enter")


async def _drain(store: RelayStore, parcels: int) -> float:
    """Parcels per second of a full mailbox, read and acknowledged."""
    bob, sealed = DeviceKey(os.urandom(32)), os.urandom(PARCEL_BYTES)
    for _ in range(parcels // 1000):
        await store.enqueue([_parcel(bob, sealed) for _ in range(1000)], now=NOW)
    begun, after, got = time.perf_counter(), 0, 0
    while True:
        mailbox = await store.peek(
            MailboxName(bob), after=after, limit=1000, max_bytes=256 * KIB, now=NOW
        )
        if not mailbox.parcels:
            break
        numbers = [parcel.sequence for parcel in mailbox.parcels]
        got, after = got + await store.acknowledge(MailboxName(bob), numbers), numbers[-1]
    assert got == parcels
    return parcels / (time.perf_counter() - begun)


async def _measure(quick: bool, folder: Path) -> list[Row]:
    rounds, seconds = (1, 0.5) if quick else (3, 3.0)
    loads: dict[tuple[str, int], Load] = {}
    async with AsyncExitStack() as stack:
        server = stack.enter_context(PostgresServer())
        stores: dict[str, Any] = {
            SQLITE: await SqliteStore.open(folder / "relay.db", _QUOTAS),
            POSTGRES: await PostgresStore.open(
                await stack.enter_async_context(server.database()), _QUOTAS
            ),
        }
        for store in stores.values():
            stack.push_async_callback(store.close)
        sends = {name: _into(store) for name, store in stores.items()}
        sends[BARE] = await stack.enter_async_context(
            _bare(await stack.enter_async_context(server.database()))
        )
        _check_disk(folder, server.folder)
        program = find_nats()
        if program is None:
            print(HOW_TO_GET_IT, file=sys.stderr, flush=True)
        else:
            sends[NATS] = await stack.enter_async_context(_nats(program, folder))
        for senders in SENDERS:
            for _ in range(rounds):
                for name, send in sends.items():
                    load = loads.setdefault((name, senders), Load())
                    await _drive(send, senders, seconds, load)
        full = 1_000 if quick else 10_000
        drains = {name: await _drain(store, full) for name, store in stores.items()}
    rows = [row for senders in SENDERS for row in _rows_of(loads, senders, with_nats=NATS in sends)]
    return [
        *rows,
        Row(
            f"drain of a mailbox of {full:,}, PostgreSQL beside SQLite",
            drains[POSTGRES],
            "parcels/s",
            drains[SQLITE],
            "ours on SQLite",
        ),
    ]


def _rows_of(loads: dict[tuple[str, int], Load], senders: int, *, with_nats: bool) -> list[Row]:
    rows = []
    for reference, target in ((BARE, BARE_TARGET), (NATS, NATS_TARGET)):
        if reference == NATS and not with_nats:
            continue
        beside = loads[reference, senders]
        for name in (SQLITE, POSTGRES):
            ours = loads[name, senders]
            aimed = senders == TARGET_SENDERS and (name == POSTGRES or reference == NATS)
            rows.append(
                Row(
                    f"durable acks on {name}, {senders} senders",
                    ours.rate,
                    "acks/s",
                    beside.rate,
                    reference,
                    target=target if aimed else None,
                    note=f"{ours.times}; {reference}: {beside.times}",
                )
            )
    return rows


def rows(quick: bool) -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        return asyncio.run(_measure(quick, Path(folder)))
