"""Relay statements in the SQLite file."""

from __future__ import annotations

import apsw

from relay.store.rules import check_newer
from relay.store.sqlite.database import Database
from relay.store.sqlite.usage import Room
from schemas.ids import IdentityKey
from schemas.records import Signed


class SqliteStatements:
    """A RelayStatements."""

    def __init__(self, database: Database) -> None:
        self._db = database

    async def put(self, identity: IdentityKey, number: int, statement: Signed) -> None:
        arguments = (identity, number, statement, self._db.room)
        await self._db.write(_put, *arguments, cost=len(statement.payload))

    async def get(self, identity: IdentityKey) -> Signed | None:
        return await self._db.read(_get, identity)


def _put(
    connection: apsw.Connection, identity: IdentityKey, number: int, statement: Signed, room: Room
) -> None:
    data = statement.encode()
    held = connection.execute(
        "SELECT number, signed FROM relay_statements WHERE identity = ?", (bytes(identity),)
    ).fetchone()
    if check_newer(held, number, data):
        room.add_directory(len(data) - (0 if held is None else len(held[1])))
        connection.execute(
            "INSERT OR REPLACE INTO relay_statements (identity, number, signed) VALUES (?, ?, ?)",
            (bytes(identity), number, data),
        )


def _get(connection: apsw.Connection, identity: IdentityKey) -> Signed | None:
    data = connection.execute(
        "SELECT signed FROM relay_statements WHERE identity = ?", (bytes(identity),)
    ).get
    return None if data is None else Signed.decode(data)
