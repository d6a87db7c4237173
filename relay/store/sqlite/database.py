"""The database file as the parts of the store use it: a writer with group commit, a reader beside.

Each part (mailboxes, accounts, blobs, …) is a module of SQL; all of them share this one object.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

import apsw

from relay.store.contract import Quotas, Written
from relay.store.rules import require_version
from relay.store.sqlite import backup
from relay.store.sqlite.moved import check_not_moved
from relay.store.sqlite.usage import Room, count
from relay.store.sqlite.writer import Writer
from schemas.errors import Blame, Fault
from storage.presence import FilesInPlace
from storage.sqlite import (
    blaming_the_disk,
    database_version,
    load_migrations,
    migrate,
    open_database,
    settle_log,
)

MIGRATIONS = files("relay.store.sqlite") / "migrations"

T = TypeVar("T")


class Database:
    """Made by `open`; reads see every change that was acknowledged before them."""

    def __init__(
        self,
        writing: apsw.Connection,
        reading: apsw.Connection,
        quotas: Quotas,
        in_place: FilesInPlace,
        on_commit: Callable[[Written], None],
    ) -> None:
        self._data_version = writing.pragma("data_version")
        self.room = Room(quotas, count(reading))
        self.writer = Writer(
            writing,
            check=in_place.check,
            on_commit=on_commit,
            on_undone=self.room.count_anew,
        )
        self._reader = reading
        # One thread: a connection belongs to one at a time.
        self._read_thread = ThreadPoolExecutor(1, thread_name_prefix="relay-reader")
        self._closed = False

    @classmethod
    async def open(
        cls,
        path: Path,
        quotas: Quotas,
        *,
        key: bytes | None,
        on_commit: Callable[[Written], None],
    ) -> Database:
        """As SqliteStore.open."""
        writing, reading = await asyncio.to_thread(_open_pair, path, key)
        return cls(writing, reading, quotas, FilesInPlace(path), on_commit)

    @classmethod
    async def beside(cls, path: Path, *, key: bytes | None) -> Database:
        """For a command, whether the relay runs or not: nothing is made, migrated or settled.

        Raises Fault `no-file`, `database-older`, `database-newer`, Refused `moved-away`, and as
        `open` does.
        """
        writing, reading = await asyncio.to_thread(_open_beside, path, key)
        return cls(writing, reading, Quotas(), FilesInPlace(path), lambda _: None)

    async def write(self, work: Callable[..., T], *arguments: Any, cost: int = 0) -> T:
        """`work(connection, *arguments)` in a transaction; returns once that is on disk."""
        return await self.writer.run(lambda connection: work(connection, *arguments), cost=cost)

    async def count_what_others_did(self) -> None:
        """Commands write to the database beside the relay: what they did is in its counts then."""
        await self.write(self._count_what_others_did)

    def _count_what_others_did(self, connection: apsw.Connection) -> None:
        version = connection.pragma("data_version")  # another one after commits of others
        if version != self._data_version:
            self.room.count_anew(connection)
        self._data_version = version

    async def read(self, work: Callable[..., T], *arguments: Any) -> T:
        """`work(connection, *arguments)` on one snapshot. Raises Fault `store-closed`."""
        if self._closed:
            raise Fault("store-closed", "the store is closed", blame=Blame.CALLER)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._read_thread, self._read_now, work, arguments)

    def _read_now(self, work: Callable[..., T], arguments: tuple[Any, ...]) -> T:
        with blaming_the_disk():
            self._reader.execute("BEGIN")  # one snapshot for all the statements of a job
            try:
                return work(self._reader, *arguments)
            finally:
                self._reader.execute("COMMIT")

    async def close(self) -> None:
        """Finish what is queued, then let go. Idempotent."""
        await self.writer.close()
        if not self._closed:
            self._closed = True
            await asyncio.to_thread(self._read_thread.shutdown)
            self._reader.close()


def _open_beside(path: Path, key: bytes | None) -> tuple[apsw.Connection, apsw.Connection]:
    """(for the writer, for the reader)."""
    if not path.exists():
        raise Fault(
            "no-file",
            f"there is no database at {str(path)!r}",
            blame=Blame.CALLER,
            hint="give the relay's data folder; its first start makes the database",
        )
    writing = open_database(path, key=key)
    try:
        require_version(database_version(writing), len(load_migrations(MIGRATIONS)))
        check_not_moved(writing)
        reading = open_database(path, key=key)
    except BaseException:
        writing.close()
        raise
    return writing, reading


def _open_pair(path: Path, key: bytes | None) -> tuple[apsw.Connection, apsw.Connection]:
    """(for the writer, for the reader)."""
    writing = open_database(path, key=key)
    try:
        settle_log(writing)
        migrate(writing, MIGRATIONS)
        with blaming_the_disk():
            check_not_moved(writing)
            backup.revive(writing)
        reading = open_database(path, key=key)
        reading.pragma("query_only", True)
    except BaseException:
        writing.close()
        raise
    return writing, reading
