"""A thin hand on the SQLite connection: rows in, rows out, savepoints."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Generic, TypeVar

import apsw

from storage.presence import FilesInPlace
from storage.sqlite import blaming_the_disk, settle_log, transaction

MIGRATIONS = "node.store.migrations"

T = TypeVar("T")


class Database:
    """The node's database, used by one thread."""

    def __init__(self, connection: apsw.Connection) -> None:
        self.connection = connection
        self.undone = 0  # how often something was: see Remembered
        self.bringers_changed = 0  # how often rows were that node/store/bringers.py reads
        path = connection.filename  # empty: it is in memory
        self._in_place = FilesInPlace(Path(path)) if path else None

    def run(self, sql: str, *parameters: Any) -> int:
        """Executes; answers how many rows changed."""
        self.connection.execute(sql, parameters)
        return self.connection.changes()

    def checkpoint(self) -> None:
        """Outside a transaction: everything into the database file, and the log emptied."""
        settle_log(self.connection)

    def many(self, sql: str, rows: list[tuple[Any, ...]]) -> list[Any]:
        """Executes for each of `rows`; answers what they return, of all."""
        return self.connection.executemany(sql, rows).fetchall()

    def row(self, sql: str, *parameters: Any) -> Any:
        """The first row, or None."""
        return next(iter(self.connection.execute(sql, parameters)), None)

    def rows(self, sql: str, *parameters: Any) -> list[Any]:
        return self.connection.execute(sql, parameters).fetchall()

    def value(self, sql: str, *parameters: Any, default: Any = None) -> Any:
        """The first column of the first row; `default` when there is no row, or it is NULL."""
        row = self.row(sql, *parameters)
        return default if row is None or row[0] is None else row[0]

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Durable when the block ends; undone when it raises. Raises Fault when the disk does, and
        `database-replaced`: that of the moment of COMMIT itself is the one that is not undone."""
        try:
            with blaming_the_disk(), transaction(self.connection):
                yield
                self._check_in_place()
            self._check_in_place()
        except BaseException:
            self.undone += 1
            raise

    def _check_in_place(self) -> None:
        if self._in_place is not None:
            self._in_place.check()

    @contextmanager
    def savepoint(self) -> Iterator[None]:
        """Inside a transaction: what the block wrote is undone when it raises."""
        self.connection.execute("SAVEPOINT command")
        try:
            yield
        except BaseException:
            self.undone += 1
            if self.connection.in_transaction:
                self.connection.execute("ROLLBACK TO command")
                self.connection.execute("RELEASE command")
            raise
        self.connection.execute("RELEASE command")


class Remembered(Generic[T]):
    """What the rows say, kept in memory until they change, or something written is undone.

    Who changes the rows changes `value` too, or calls `forget`.
    """

    def __init__(self, database: Database, load: Callable[[], T]) -> None:
        self._db = database
        self._load = load
        self._loaded: tuple[int, T] | None = None

    @property
    def value(self) -> T:
        if self._loaded is None or self._loaded[0] != self._db.undone:
            self._loaded = (self._db.undone, self._load())
        return self._loaded[1]

    def forget(self) -> None:
        self._loaded = None
