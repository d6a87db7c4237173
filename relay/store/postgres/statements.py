"""Relay statements in the database: see relay/store/statements.py."""

from __future__ import annotations

from relay.store.contract import Quotas
from relay.store.postgres import directory_owners, usage
from relay.store.postgres.connecting import Connection
from relay.store.postgres.database import Database, lock
from relay.store.rules import check_newer
from schemas.ids import DeviceKey, IdentityKey
from schemas.records import Signed


class PostgresStatements:
    """A RelayStatements."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def put(
        self, identity: IdentityKey, number: int, statement: Signed, *, by: DeviceKey, now: int
    ) -> None:
        await self._database.write(
            _put, identity, number, statement, by, self._database.quotas, now
        )

    async def get(self, identity: IdentityKey) -> Signed | None:
        rows = await self._database.fetch(
            "SELECT signed FROM relay_statements WHERE identity = $1", bytes(identity)
        )
        return Signed.decode(rows[0]["signed"]) if rows else None


async def _put(
    connection: Connection,
    identity: IdentityKey,
    number: int,
    statement: Signed,
    by: DeviceKey,
    quotas: Quotas,
    now: int,
) -> None:
    key, data = bytes(identity), statement.encode()
    await lock(connection, b"relay statement", key)
    held = await connection.fetchrow(
        "SELECT number, signed FROM relay_statements WHERE identity = $1", key
    )
    newer = check_newer(None if held is None else tuple(held), number, data)
    added = len(data) - (0 if held is None else len(held["signed"]))
    changes = await directory_owners.keep(connection, key, by, added, quotas, now)
    if newer:
        await connection.execute(
            "INSERT INTO relay_statements (identity, number, signed) VALUES ($1, $2, $3)"
            " ON CONFLICT (identity) DO UPDATE SET number = excluded.number,"
            " signed = excluded.signed",
            *(key, number, data),
        )
    await usage.add(connection, **changes)
