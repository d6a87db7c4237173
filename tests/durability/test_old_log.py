"""A log that an earlier process left is put into the database, and so on disk a second time, before
anything is acknowledged: its last pages may be there in the kernel's memory only."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing
from pathlib import Path

import pytest

from node.home import create_home, open_home_database
from relay.store.sqlite.store import SqliteStore
from storage.sqlite import open_database

MARK = 1234


@asynccontextmanager
async def home(folder: Path) -> AsyncIterator[Path]:
    with open_home_database(folder):
        yield folder / "node.db"


@asynccontextmanager
async def relay(folder: Path) -> AsyncIterator[Path]:
    store = await SqliteStore.open(folder / "relay.db")
    yield folder / "relay.db"
    await store.close()


def mark_without_log(database: Path) -> object:
    alone = shutil.copy(database, database.with_name("alone"))
    with closing(open_database(Path(alone))) as connection:
        return connection.pragma("application_id")


@pytest.mark.parametrize("opened", [home, relay])
async def test_an_old_log_is_settled(
    tmp_path: Path, opened: Callable[[Path], AbstractAsyncContextManager[Path]]
) -> None:
    alive, killed = tmp_path / "alive", tmp_path / "killed"
    create_home(alive, "Ada")
    async with opened(alive) as database:
        pass
    with closing(open_database(database)) as connection:
        connection.pragma("application_id", MARK)
        shutil.copytree(alive, killed)
    assert mark_without_log(killed / database.name) == 0, "not in the log alone: not a test of it"
    async with opened(killed) as database:
        assert mark_without_log(database) == MARK
