"""The audit log in the database: see relay/store/audit.py."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing
from pathlib import Path

import apsw

from relay.store.audit import SALT_LENGTH, START, TRIMMED, Place, Row, next_row
from relay.store.sqlite.database import Database
from schemas.errors import Blame, Fault
from storage.sqlite import blaming_the_disk, open_database


class SqliteAudit:
    """An AuditLog."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def append(self, event: str, subject: str, *, now: int) -> Place:
        return await self._database.write(append, event, subject, now)

    async def erase(self, subject: str) -> int:
        return await self._database.write(erase, subject)

    async def trim(self, before: int, *, now: int) -> int:
        return await self._database.write(trim, before, now)

    async def begin(self) -> Place:
        return await self._database.read(begin)

    async def rows(self, *, after: int = 0, limit: int) -> Sequence[Row]:
        return await self._database.read(rows, after, limit)


class _Snapshot:
    """An AuditReader over a connection that is in a transaction."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection

    async def begin(self) -> Place:
        return begin(self._connection)

    async def rows(self, *, after: int = 0, limit: int) -> Sequence[Row]:
        return rows(self._connection, after, limit)


@asynccontextmanager
async def reading(file: Path, key: bytes | None) -> AsyncIterator[_Snapshot]:
    """The log in a relay's database, whether the relay runs or not; nothing is changed.

    For a process that does nothing else: the reads block. Raises Fault `no-file`, `no-audit-log`
    and what opening the database causes.
    """
    if not file.exists():  # noqa: ASYNC240 - this process does nothing else
        raise Fault("no-file", f"there is no database at {str(file)!r}",
                    blame=Blame.CALLER, hint="give the relay's data folder")  # fmt: skip
    with closing(open_database(file, key=key)) as connection, blaming_the_disk():
        connection.pragma("query_only", True)
        connection.execute("BEGIN")
        if not connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'audit'").get:
            raise Fault("no-audit-log", "this database is from before there was an audit log",
                        blame=Blame.CALLER, hint="start the relay once")  # fmt: skip
        yield _Snapshot(connection)


def append(connection: apsw.Connection, event: str, subject: str, now: int) -> Place:
    """Add a row to the transaction that changes what it tells of."""
    row = next_row(_head(connection), event, subject, os.urandom(SALT_LENGTH), now)
    connection.execute(
        "INSERT INTO audit (number, time, event, subject, salt, commitment, hash)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        (row.number, row.time, row.event, row.subject, row.salt, row.commitment, row.hash),
    )
    return Place(row.number, row.hash)


def erase(connection: apsw.Connection, subject: str) -> int:
    """Forget whom the rows of this subject were about, and those of parts of it, which begin with
    it and a space; how many there were."""
    connection.execute(
        "UPDATE audit SET subject = NULL, salt = NULL"
        " WHERE subject = ?1 OR subject > ?1 || ' ' AND subject < ?1 || '!'",
        (subject,),
    )
    return connection.changes()


def trim(connection: apsw.Connection, before: int, now: int) -> int:
    """Delete the first rows that are older than `before`; how many there were."""
    last = connection.execute(
        "SELECT number, hash FROM audit WHERE number <"
        " ifnull((SELECT min(number) FROM audit WHERE time >= ?), 9e18)"
        " ORDER BY number DESC LIMIT 1",
        (before,),
    ).fetchone()
    if last is None:
        return 0
    place = Place(*last)
    append(connection, TRIMMED, str(place), now)
    connection.execute("DELETE FROM audit WHERE number <= ?", (place.number,))
    deleted = connection.changes()
    connection.execute(
        "INSERT OR REPLACE INTO audit_begin (one, number, hash) VALUES (1, ?, ?)",
        (place.number, place.hash),
    )
    return deleted


def begin(connection: apsw.Connection) -> Place:
    row = connection.execute("SELECT number, hash FROM audit_begin").fetchone()
    return Place(0, START) if row is None else Place(*row)


def rows(connection: apsw.Connection, after: int, limit: int) -> list[Row]:
    found = connection.execute(
        "SELECT number, time, event, subject, salt, commitment, hash FROM audit"
        " WHERE number > ? ORDER BY number LIMIT ?",
        (after, limit),
    )
    return [Row(*row) for row in found]


def _head(connection: apsw.Connection) -> Place:
    row = connection.execute(
        "SELECT number, hash FROM audit ORDER BY number DESC LIMIT 1"
    ).fetchone()
    return begin(connection) if row is None else Place(*row)
