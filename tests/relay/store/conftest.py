"""Every store there is, for the tests of what each of them promises.

`reopen()` opens the data of this test, the same each time, as restarts do; `store` is one opened.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from relay.store.contract import Quotas, RelayStore
from relay.store.postgres.store import PostgresStore
from relay.store.sqlite.store import SqliteStore
from schemas.ids import DeviceKey
from tests.relay.postgres import PostgresServer
from tests.relay.store.stores import Opener


@pytest.fixture(params=["postgres", "sqlite"])
async def reopen(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Opener]:
    if request.param == "sqlite":

        async def open_sqlite(quotas: Quotas) -> RelayStore:
            return await SqliteStore.open(tmp_path / "relay.db", quotas)

        opener = Opener(open_sqlite)
        yield opener
        await opener.close()
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    async with server.database() as url:

        async def open_postgres(quotas: Quotas) -> RelayStore:
            return await PostgresStore.open(url, quotas)

        opener = Opener(open_postgres)
        yield opener
        await opener.close()


@pytest.fixture
async def store(reopen: Opener) -> RelayStore:
    return await reopen()


@pytest.fixture
def bob() -> DeviceKey:
    return DeviceKey(os.urandom(32))
