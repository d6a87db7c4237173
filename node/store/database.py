"""A thin hand on the SQLite connection: rows in, rows out, savepoints."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import apsw

from storage.sqlite import blaming_the_disk, settle_log, transaction

MIGRATIONS = "node.store.migrations"


class Database:
    """The node's database, used by one thread."""

    def __init__(self, connection: apsw.Connection) -> None:
        self.connection = connection

    def run(self, sql: str, *parameters: Any) -> int:
        """Executes; answers how many rows changed."""
        self.connection.execute(sql, parameters)
        return self.connection.changes()

    def checkpoint(self) -> None:
        """Outside a transaction: everything into the database file, and the log emptied."""
        settle_log(self.connection)

    def many(self, sql: str, rows: list[tuple[Any, ...]]) -> None:
        self.connection.executemany(sql, rows)

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
        """Durable when the block ends; undone when it raises. Raises Fault when the disk does."""
        with blaming_the_disk(), transaction(self.connection):
            yield

    @contextmanager
    def savepoint(self) -> Iterator[None]:
        """Inside a transaction: what the block wrote is undone when it raises."""
        self.connection.execute("SAVEPOINT command")
        try:
            yield
        except BaseException:
            if self.connection.in_transaction:
                self.connection.execute("ROLLBACK TO command")
                self.connection.execute("RELEASE command")
            raise
        self.connection.execute("RELEASE command")
