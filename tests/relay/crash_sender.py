"""A process to be killed: stores parcels, and tells which ones it has acknowledged.

Arguments: folder, mailbox key in hex. Writes one line `ID SEQUENCE` per acknowledged parcel.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from relay.store.contract import Quotas
from relay.store.sqlite.store import SqliteStore
from schemas.ids import DeviceKey
from schemas.node_service import Enqueued
from tests.relay.support import NOW, parcel

SENDERS = 16


async def main(folder: Path, recipient: DeviceKey) -> None:
    quotas = Quotas(mailbox_parcels=10**6, mailbox_bytes=10**9)
    store = await SqliteStore.open(folder / "relay.db", quotas)

    async def send() -> None:
        while True:
            item = parcel(recipient)
            [outcome] = await store.enqueue([item], now=NOW)
            assert isinstance(outcome, Enqueued)
            os.write(1, f"{item.id} {outcome.sequence}\n".encode())

    await asyncio.gather(*(send() for _ in range(SENDERS)))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), DeviceKey.from_hex(sys.argv[2])))
