"""The audit log in the database: see relay/store/audit.py. All processes write one chain."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from relay.store.audit import SALT_LENGTH, TRIMMED, Place, Row, next_row
from relay.store.postgres.connecting import Connection, connect
from relay.store.postgres.database import Database
from relay.store.postgres.failures import blaming_the_server
from relay.store.postgres.schema import require_schema

_ROWS = (
    "SELECT number, time, event, subject, salt, commitment, hash FROM audit"
    " WHERE number > $1 ORDER BY number LIMIT $2"
)
_BEGIN = "SELECT number, hash FROM audit_places WHERE name = 'begin'"


class PostgresAudit:
    """An AuditLog."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def append(self, event: str, subject: str, *, now: int) -> Place:
        return await self._database.write(append, event, subject, now)

    async def erase(self, subject: str) -> int:
        return await self._database.write(erase, subject)

    async def trim(self, before: int, *, now: int) -> int:
        if not await self._database.fetch("SELECT 1 FROM audit WHERE time < $1 LIMIT 1", before):
            return 0  # no transaction each minute for nothing
        return await self._database.write(trim, before, now)

    async def begin(self) -> Place:
        [row] = await self._database.fetch(_BEGIN)
        return Place(row["number"], row["hash"])

    async def rows(self, *, after: int = 0, limit: int) -> Sequence[Row]:
        return [Row(*row) for row in await self._database.fetch(_ROWS, after, limit)]


class _Snapshot:
    """An AuditReader over a connection that is in a transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def begin(self) -> Place:
        row = await self._connection.fetchrow(_BEGIN)
        return Place(row["number"], row["hash"])

    async def rows(self, *, after: int = 0, limit: int) -> Sequence[Row]:
        return [Row(*row) for row in await self._connection.fetch(_ROWS, after, limit)]


@asynccontextmanager
async def reading(url: str) -> AsyncIterator[_Snapshot]:
    """The log in the database at `url`; nothing is changed.

    Raises Fault `no-database` and what connecting causes.
    """
    connection = await connect(url)
    try:
        with blaming_the_server():
            async with connection.transaction(isolation="repeatable_read", readonly=True):
                await require_schema(connection)
                yield _Snapshot(connection)
    finally:
        connection.terminate()


async def append(connection: Connection, event: str, subject: str, now: int) -> Place:
    """Add a row to the transaction that changes what it tells of; others wait for its end."""
    head = await connection.fetchrow(
        "SELECT number, hash FROM audit_places WHERE name = 'head' FOR UPDATE"
    )
    place = Place(head["number"], head["hash"])
    row = next_row(place, event, subject, os.urandom(SALT_LENGTH), now)
    await connection.execute(
        "INSERT INTO audit (number, time, event, subject, salt, commitment, hash)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7)",
        *(row.number, row.time, row.event, row.subject, row.salt, row.commitment, row.hash),
    )
    place = Place(row.number, row.hash)
    await _set(connection, "head", place)
    return place


async def erase(connection: Connection, subject: str) -> int:
    """Forget whom the rows of this subject were about, and those of parts of it, which begin with
    it and a space; how many there were."""
    done = await connection.execute(
        "UPDATE audit SET subject = NULL, salt = NULL"
        " WHERE subject = $1 OR starts_with(subject, $1 || ' ')",
        subject,
    )
    return int(done.rpartition(" ")[2])


async def trim(connection: Connection, before: int, now: int) -> int:
    """Delete the first rows that are older than `before`; how many there were."""
    # Whoever appends, or trims in another process, waits.
    await connection.execute("SELECT 1 FROM audit_places WHERE name = 'head' FOR UPDATE")
    last = await connection.fetchrow(
        "SELECT number, hash FROM audit WHERE number <"
        " coalesce((SELECT min(number) FROM audit WHERE time >= $1), 9223372036854775807)"
        " ORDER BY number DESC LIMIT 1",
        before,
    )
    if last is None:
        return 0
    place = Place(last["number"], last["hash"])
    await append(connection, TRIMMED, str(place), now)
    done = await connection.execute("DELETE FROM audit WHERE number <= $1", place.number)
    await _set(connection, "begin", place)
    return int(done.rpartition(" ")[2])


async def _set(connection: Connection, name: str, place: Place) -> None:
    await connection.execute(
        "UPDATE audit_places SET number = $2, hash = $3 WHERE name = $1",
        *(name, place.number, place.hash),
    )
