"""A process to be killed: stores parcels, and tells which ones it has acknowledged.

Arguments: folder or PostgreSQL's URL, mailbox key in hex. Writes one line `ID SEQUENCE` per
acknowledged parcel.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from relay.store.contract import Quotas, RelayStore
from relay.store.postgres.store import PostgresStore
from relay.store.sqlite.store import SqliteStore
from schemas.ids import DeviceKey
from schemas.node_service import Enqueued
from tests.relay.support import NOW, parcel

SENDERS = 16


QUOTAS = Quotas(mailbox_parcels=10**6, mailbox_bytes=10**9)


async def open_store(place: str) -> RelayStore:
    """`place` as given on the command line."""
    if place.startswith("postgresql:"):
        return await PostgresStore.open(place, QUOTAS)
    return await SqliteStore.open(Path(place) / "relay.db", QUOTAS)


async def main(place: str, recipient: DeviceKey) -> None:
    store = await open_store(place)

    async def send() -> None:
        while True:
            item = parcel(recipient)
            [outcome] = await store.enqueue([item], now=NOW)
            assert isinstance(outcome, Enqueued)
            os.write(1, f"{item.id} {outcome.sequence}\n".encode())

    await asyncio.gather(*(send() for _ in range(SENDERS)))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], DeviceKey.from_hex(sys.argv[2])))
