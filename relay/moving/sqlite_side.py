"""A relay's SQLite file and the key beside it, as where a move begins or ends."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager, closing, contextmanager
from pathlib import Path
from typing import Any

import apsw

from identity.keys import device_from_seed
from relay.config import SEED_FILE
from relay.keys import read_device
from relay.moving.side import Batch, Row, not_empty, relay_runs
from relay.store.contract import Usage
from relay.store.sqlite import moved
from relay.store.sqlite.database import MIGRATIONS
from relay.store.sqlite.usage import count
from schemas.errors import Fault, Refused
from storage.files import cannot_write, replace_file, write_private_file
from storage.lock import FolderLock
from storage.sqlite import blaming_the_disk, migrate, open_database


class SqliteSide:
    """Source and Target. The seed is in a file of the same folder."""

    def __init__(self, connection: apsw.Connection, seed: Path) -> None:
        self._connection = connection
        self._seed = seed
        self.finished = False
        self.new_seed: bytes | None = None

    async def tables(self) -> dict[str, tuple[str, ...]]:
        names = self._connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")
        return {str(name): self._columns(str(name)) for (name,) in names.fetchall()}

    def _columns(self, table: str) -> tuple[str, ...]:
        rows = self._connection.execute("SELECT name FROM pragma_table_info(?)", (table,))
        return tuple(sorted(str(name) for (name,) in rows))

    async def count(self, table: str) -> int:
        number: Any = self._connection.execute(f"SELECT count(*) FROM {table}").get  # noqa: S608
        return int(number)

    async def rows(self, table: str, columns: Sequence[str]) -> AsyncIterator[list[Row]]:
        batch = Batch()
        with blaming_the_disk():
            query = f"SELECT {', '.join(columns)} FROM {table}"  # noqa: S608 - our own names
            for row in self._connection.execute(query):
                if batch.add(row):
                    yield batch.rows
                    batch = Batch()
        if batch.rows:
            yield batch.rows

    async def next_ids(self) -> dict[str, int]:
        if "sqlite_sequence" not in await self.tables():
            return {}
        found: list[Any] = self._connection.execute("SELECT * FROM sqlite_sequence").fetchall()
        return {name: number + 1 for name, number in found}

    async def usage(self) -> Usage:
        return count(self._connection)

    async def seed(self) -> bytes | None:
        device = read_device(self._seed)
        return None if device is None else device.seed

    async def mark_as_moved(self, now: int) -> None:
        self._connection.execute("COMMIT")  # what it read until here
        moved.mark_as_moved(self._connection, now)

    async def audit_begin(self) -> tuple[int, bytes] | None:
        rows: Any = self._connection.execute("SELECT number, hash FROM audit_begin")
        return next(((number, hash_) for number, hash_ in rows), None)

    async def parents(self) -> dict[str, set[str]]:
        found = {}
        for table in await self.tables():
            rows = self._connection.execute(
                'SELECT "table" FROM pragma_foreign_key_list(?)', (table,)
            )
            found[table] = {str(parent) for (parent,) in rows}
        return found

    async def write(self, table: str, columns: Sequence[str], rows: Sequence[Row]) -> None:
        places = ", ".join("?" * len(columns))
        with blaming_the_disk():
            self._connection.executemany(
                f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({places})",  # noqa: S608
                rows,
            )

    async def set_next_ids(self, ids: Mapping[str, int]) -> None:
        for table in await self.next_ids():
            self._connection.execute("DELETE FROM sqlite_sequence WHERE name = ?", (table,))
        for table, number in ids.items():
            self._connection.execute(
                "INSERT INTO sqlite_sequence VALUES (?, ?)", (table, number - 1)
            )

    async def set_usage(self, usage: Usage) -> None:
        """It is counted with each start."""

    async def set_seed(self, seed: bytes) -> None:
        held = read_device(self._seed)
        if held is not None and held.public != device_from_seed(seed).public:
            raise not_empty(str(self._seed.parent), "the key of another relay")
        self.new_seed = None if held is not None else seed

    async def set_audit_begin(self, number: int, hash_: bytes) -> None:
        self._connection.execute("INSERT INTO audit_begin VALUES (1, ?, ?)", (number, hash_))

    async def finish(self) -> None:
        self.finished = True


@asynccontextmanager
async def sqlite_source(file: Path, key: bytes | None) -> AsyncIterator[SqliteSide]:
    """An existing database, brought to this program's version first; its folder is ours.

    Raises Refused `already-running`, `no-file`, `is-backup`, `moved-away`.
    """
    with _opened(file, key) as connection:
        if connection.execute("SELECT count(*) FROM meta WHERE name = 'is_backup'").get:
            raise Refused(
                "is-backup",
                f"{str(file)!r} is a backup, older than the world",
                hint="make it a relay's database with the command restore, and run that once",
            )
        moved.check_not_moved(connection)
        connection.execute("BEGIN")  # one moment, for all tables
        yield SqliteSide(connection, file.parent / SEED_FILE)


def take_back(file: Path, key: bytes | None) -> None:
    """A relay may start on it again. Raises Refused `already-running`, `no-file`, `not-moved`."""
    with _opened(file, key) as connection:
        moved.take_back(connection)


@contextmanager
def _opened(file: Path, key: bytes | None) -> Iterator[apsw.Connection]:
    if not file.exists():
        raise Refused("no-file", f"there is no {str(file)!r}", hint="check it")
    with ExitStack() as stack:
        _lock(stack, file.parent)
        connection = stack.enter_context(closing(open_database(file, key=key)))
        migrate(connection, MIGRATIONS)
        yield connection


@asynccontextmanager
async def sqlite_target(file: Path, key: bytes | None) -> AsyncIterator[SqliteSide]:
    """A file that is made. Raises Refused `already-running`, `target-not-empty`."""
    part = file.with_name(f".{file.name}.part")
    with ExitStack() as stack:
        _lock(stack, file.parent)
        if file.exists():  # noqa: ASYNC240 - as above
            raise not_empty(str(file.parent), f"there is {file.name}")
        stack.callback(part.unlink, missing_ok=True)
        part.unlink(missing_ok=True)
        with closing(open_database(part, key=key)) as connection:
            migrate(connection, MIGRATIONS)
            side = SqliteSide(connection, file.parent / SEED_FILE)
            with blaming_the_disk():
                connection.execute("BEGIN")
                yield side
                connection.execute("COMMIT" if side.finished else "ROLLBACK")
                connection.pragma("journal_mode", "delete")  # one file, without companions
        if not side.finished:
            return
        try:
            if side.new_seed is not None:
                write_private_file(file.parent / SEED_FILE, side.new_seed)
            replace_file(part, file)
        except OSError as error:
            raise cannot_write(file, error) from error


def _lock(stack: ExitStack, folder: Path) -> None:
    try:
        stack.enter_context(FolderLock(folder))
    except Fault as fault:
        if fault.code == "already-running":
            raise relay_runs(str(folder)) from fault
        raise
