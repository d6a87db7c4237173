"""Relay statements in the database: see relay/store/statements.py."""

from __future__ import annotations

from relay.store.contract import Quotas
from relay.store.postgres import usage
from relay.store.postgres.connecting import Connection
from relay.store.postgres.database import Database, lock
from relay.store.rules import check_newer
from schemas.ids import IdentityKey
from schemas.records import Signed


class PostgresStatements:
    """A RelayStatements."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def put(self, identity: IdentityKey, number: int, statement: Signed) -> None:
        await self._database.write(_put, identity, number, statement, self._database.quotas)

    async def get(self, identity: IdentityKey) -> Signed | None:
        rows = await self._database.fetch(
            "SELECT signed FROM relay_statements WHERE identity = $1", bytes(identity)
        )
        return Signed.decode(rows[0]["signed"]) if rows else None


async def _put(
    connection: Connection, identity: IdentityKey, number: int, statement: Signed, quotas: Quotas
) -> None:
    key, data = bytes(identity), statement.encode()
    await lock(connection, b"relay statement", key)
    held = await connection.fetchrow(
        "SELECT number, signed FROM relay_statements WHERE identity = $1", key
    )
    if check_newer(None if held is None else tuple(held), number, data):
        added = len(data) - (0 if held is None else len(held["signed"]))
        await usage.check_directory(connection, added, quotas)
        await connection.execute(
            "INSERT INTO relay_statements (identity, number, signed) VALUES ($1, $2, $3)"
            " ON CONFLICT (identity) DO UPDATE SET number = excluded.number,"
            " signed = excluded.signed",
            *(key, number, data),
        )
        await usage.add(connection, directory_bytes=added)
