"""A relay's PostgreSQL database, as where a move begins or ends: one transaction either way."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import Any, Final

import asyncpg

from relay.moving.side import NOT_MOVED, Batch, Row, not_empty, relay_runs
from relay.store.contract import Usage
from relay.store.postgres import moved
from relay.store.postgres.connecting import Connection, connect
from relay.store.postgres.failures import blaming_the_server
from relay.store.postgres.schema import migrate, require_schema
from relay.store.postgres.usage import count
from relay.store.processes import LIVE_S

HERE: Final = "the PostgreSQL database"  # its URL may hold a password
_PREFETCH: Final = 50  # rows; a parcel is half a MiB at most
_LONG: Final = "SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0"
_COLUMNS: Final = """
    SELECT table_name, column_name, data_type FROM information_schema.columns
    JOIN information_schema.tables USING (table_schema, table_name)
    WHERE table_schema = current_schema() AND table_type = 'BASE TABLE'
    ORDER BY table_name, column_name
"""
_PARENTS: Final = """
    SELECT child.relname AS child, parent.relname AS parent FROM pg_constraint c
    JOIN pg_class child ON child.oid = c.conrelid JOIN pg_class parent ON parent.oid = c.confrelid
    WHERE c.contype = 'f' AND c.connamespace = current_schema()::regnamespace
"""
_IDENTITIES: Final = """
    SELECT c.relname AS "table", a.attname AS "column" FROM pg_attribute a
    JOIN pg_class c ON c.oid = a.attrelid
    WHERE a.attidentity <> '' AND c.relnamespace = current_schema()::regnamespace
"""
_LIVE: Final = f"""
    SELECT count(*) FROM processes WHERE NOT withdrawn
    AND seen > extract(epoch FROM clock_timestamp()) - {LIVE_S}
"""  # noqa: S608
# A mailbox that has not begun to count: in SQLite it begins when it is made.
_READ_AS: Final = {
    ("mailboxes", "next_seq"): "CASE next_seq WHEN 0 THEN"
    " coalesce((SELECT value FROM meta WHERE name = 'first_seq'), 1) ELSE next_seq END",
}


class PostgresSide:
    """Source and Target."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._kinds: dict[tuple[str, str], str] = {}
        self.finished = False

    async def tables(self) -> dict[str, tuple[str, ...]]:
        found: dict[str, list[str]] = {}
        for table, column, kind in await self._connection.fetch(_COLUMNS):
            found.setdefault(table, []).append(column)
            self._kinds[table, column] = kind
        return {table: tuple(sorted(columns)) for table, columns in found.items()}

    async def count(self, table: str) -> int:
        return int(await self._connection.fetchval(f"SELECT count(*) FROM {table}"))  # noqa: S608

    async def rows(self, table: str, columns: Sequence[str]) -> AsyncIterator[list[Row]]:
        batch = Batch()
        chosen = ", ".join(self._read_as(table, column) for column in columns)
        query = f"SELECT {chosen} FROM {table}"  # noqa: S608 - our own names
        with blaming_the_server():
            async for row in self._connection.cursor(query, prefetch=_PREFETCH):
                if batch.add(tuple(row)):
                    yield batch.rows
                    batch = Batch()
        if batch.rows:
            yield batch.rows

    def _read_as(self, table: str, column: str) -> str:
        if self._kinds[table, column] == "boolean":
            return f"{column}::int"
        return _READ_AS.get((table, column), column)

    async def next_ids(self) -> dict[str, int]:
        found = {}
        for table, column in await self._connection.fetch(_IDENTITIES):
            sequence = await self._sequence(table, column)
            found[table] = await self._connection.fetchval(
                f"SELECT last_value + is_called::int FROM {sequence}"  # noqa: S608
            )
        return found

    async def _sequence(self, table: str, column: str) -> str:
        return str(
            await self._connection.fetchval("SELECT pg_get_serial_sequence($1, $2)", table, column)
        )

    async def usage(self) -> Usage:
        return await count(self._connection)

    async def seed(self) -> bytes | None:
        found: bytes | None = await self._connection.fetchval("SELECT seed FROM relay_key")
        return found

    async def mark_as_moved(self, now: int) -> None:
        with blaming_the_server():
            await moved.mark_as_moved(self._connection, now)

    async def audit_begin(self) -> tuple[int, bytes] | None:
        [number, hash_] = await self._connection.fetchrow(
            "SELECT number, hash FROM audit_places WHERE name = 'begin'"
        )
        return (number, hash_) if number else None

    async def parents(self) -> dict[str, set[str]]:
        found: dict[str, set[str]] = {}
        for child, parent in await self._connection.fetch(_PARENTS):
            found.setdefault(child, set()).add(parent)
        return found

    async def write(self, table: str, columns: Sequence[str], rows: Sequence[Row]) -> None:
        flags = {n for n, each in enumerate(columns) if self._kinds[table, each] == "boolean"}
        with blaming_the_server():
            await self._connection.copy_records_to_table(
                table,
                records=[_with_flags(row, flags) for row in rows] if flags else rows,
                columns=columns,
                timeout=None,
            )

    async def set_next_ids(self, ids: Mapping[str, int]) -> None:
        """At least above what is there: SQLite does not remember all of them."""
        for table, column in await self._connection.fetch(_IDENTITIES):
            highest = await self._connection.fetchval(
                f"SELECT coalesce(max({column}), 0) + 1 FROM {table}"  # noqa: S608
            )
            await self._connection.execute(
                "SELECT setval($1::regclass, $2, false)",
                await self._sequence(table, column),
                max(highest, ids.get(table, 1)),
            )

    async def set_usage(self, usage: Usage) -> None:
        values = asdict(usage)
        changes = ", ".join(f"{name} = ${at}" for at, name in enumerate(values, 1))
        await self._connection.execute(
            f"UPDATE usage SET {changes} WHERE shard = 0",  # noqa: S608 - our own names
            *values.values(),
        )

    async def set_seed(self, seed: bytes) -> None:
        await self._connection.execute("INSERT INTO relay_key (seed) VALUES ($1)", seed)

    async def set_audit_begin(self, number: int, hash_: bytes) -> None:
        await self._connection.execute(
            "UPDATE audit_places SET number = $1, hash = $2", number, hash_
        )

    async def finish(self) -> None:
        await self._connection.execute(
            "UPDATE delivery_tokens t SET parcels = s.parcels, bytes = s.bytes FROM"
            " (SELECT token, count(*) AS parcels, sum(octet_length(sealed)) AS bytes"
            " FROM parcels WHERE token IS NOT NULL GROUP BY token) AS s WHERE t.id = s.token"
        )
        await self._connection.execute(
            "UPDATE audit_places SET number = last.number, hash = last.hash FROM"
            " (SELECT number, hash FROM audit ORDER BY number DESC LIMIT 1) AS last"
            " WHERE name = 'head'"
        )
        self.finished = True

    async def hold(self, mode: str) -> None:
        """Against changes by others, or wait for them. Raises Refused `already-running`."""
        with blaming_the_server():
            await self._check_none_lives()
            names = ", ".join(sorted(set(await self.tables()) - {"schema_version"}))
            try:
                await self._connection.execute(f"LOCK TABLE {names} IN {mode} MODE")
            except asyncpg.DeadlockDetectedError as error:  # with somebody who writes
                raise relay_runs(HERE) from error
            await self._check_none_lives()  # one may have come before the lock

    async def _check_none_lives(self) -> None:
        if await self._connection.fetchval(_LIVE):
            raise relay_runs(HERE)


@asynccontextmanager
async def postgres_source(url: str) -> AsyncIterator[PostgresSide]:
    """Its relay's processes are stopped.

    Raises Refused `already-running`, `moved-away`, Fault as `connect`.
    """
    async with _connected(url) as connection:
        transaction = connection.transaction()
        await transaction.start()
        side = PostgresSide(connection)
        await moved.check_not_moved(connection)
        await side.hold("SHARE")
        yield side
        with blaming_the_server():
            await transaction.commit()


async def take_back(url: str) -> None:
    """A relay may start on it again, which migrates it: before, it refuses writes.

    Raises Refused `not-moved`, Fault `no-database` and as `connect`.
    """
    connection = await connect(url)
    try:
        with blaming_the_server():
            await require_schema(connection)
            await moved.take_back(connection)
    finally:
        connection.terminate()


@asynccontextmanager
async def postgres_target(url: str) -> AsyncIterator[PostgresSide]:
    """An empty database; what is written shows when the block ends, or not at all.

    Raises Refused `already-running`, `target-not-empty`, Fault as `connect`.
    """
    async with _connected(url) as connection:
        side = PostgresSide(connection)
        transaction = connection.transaction()
        await transaction.start()
        try:
            await side.hold("EXCLUSIVE")
            for table in {*await side.tables(), "relay_key"} - (set(NOT_MOVED) - {"relay_key"}):
                if await side.count(table):
                    raise not_empty(HERE, f"{table} is not empty")
            yield side
        finally:
            with blaming_the_server():
                await (transaction.commit() if side.finished else transaction.rollback())


@asynccontextmanager
async def _connected(url: str) -> AsyncIterator[Any]:
    connection = await connect(url)
    try:
        with blaming_the_server():
            await migrate(connection)
            await connection.execute(_LONG)
        yield connection
    finally:
        connection.terminate()


def _with_flags(row: Row, flags: set[int]) -> tuple[object, ...]:
    return tuple(
        bool(value) if at in flags and value is not None else value for at, value in enumerate(row)
    )
