"""Relay statements in the SQLite file."""

from __future__ import annotations

import apsw

from relay.store.rules import check_newer
from relay.store.sqlite import directory_owners
from relay.store.sqlite.database import Database
from relay.store.sqlite.usage import Room
from schemas.ids import DeviceKey, IdentityKey
from schemas.records import Signed


class SqliteStatements:
    """A RelayStatements."""

    def __init__(self, database: Database) -> None:
        self._db = database

    async def put(
        self, identity: IdentityKey, number: int, statement: Signed, *, by: DeviceKey, now: int
    ) -> None:
        arguments = (identity, number, statement, by, self._db.room, now)
        await self._db.write(_put, *arguments, cost=len(statement.payload))

    async def get(self, identity: IdentityKey) -> Signed | None:
        return await self._db.read(_get, identity)


def _put(
    connection: apsw.Connection,
    identity: IdentityKey,
    number: int,
    statement: Signed,
    by: DeviceKey,
    room: Room,
    now: int,
) -> None:
    data = statement.encode()
    held = connection.execute(
        "SELECT number, signed FROM relay_statements WHERE identity = ?", (bytes(identity),)
    ).fetchone()
    newer = check_newer(held, number, data)
    added = len(data) - (0 if held is None else len(held[1]))
    directory_owners.keep(connection, bytes(identity), by, added, room, now)
    if newer:
        connection.execute(
            "INSERT OR REPLACE INTO relay_statements (identity, number, signed) VALUES (?, ?, ?)",
            (bytes(identity), number, data),
        )


def _get(connection: apsw.Connection, identity: IdentityKey) -> Signed | None:
    data = connection.execute(
        "SELECT signed FROM relay_statements WHERE identity = ?", (bytes(identity),)
    ).get
    return None if data is None else Signed.decode(data)
