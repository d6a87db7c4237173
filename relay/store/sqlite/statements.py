"""Relay statements in the SQLite file."""

from __future__ import annotations

from typing import Final

from relay.store.sqlite.database import Database
from relay.store.sqlite.signed_records import SignedRecords
from schemas.ids import DeviceKey, IdentityKey
from schemas.records import Signed

_STATEMENTS: Final = SignedRecords("relay_statements", owner="identity", number="number")


class SqliteStatements:
    """A RelayStatements."""

    def __init__(self, database: Database) -> None:
        self._db = database

    async def put(
        self, identity: IdentityKey, number: int, statement: Signed, *, by: DeviceKey, now: int
    ) -> None:
        arguments = (identity, number, statement, by, self._db.room, now)
        await self._db.write(_STATEMENTS.put, *arguments, cost=len(statement.payload))

    async def get(self, identity: IdentityKey) -> Signed | None:
        return await self._db.read(_STATEMENTS.get, identity)
