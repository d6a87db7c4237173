"""Relay statements in the database: see relay/store/statements.py."""

from __future__ import annotations

from typing import Final

from relay.store.postgres.database import Database
from relay.store.postgres.signed_records import SignedRecords
from schemas.ids import DeviceKey, IdentityKey
from schemas.records import Signed

_STATEMENTS: Final = SignedRecords("relay_statements", owner="identity", number="number")


class PostgresStatements:
    """A RelayStatements."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def put(
        self, identity: IdentityKey, number: int, statement: Signed, *, by: DeviceKey, now: int
    ) -> None:
        quotas = self._database.quotas
        await self._database.write(_STATEMENTS.put, identity, number, statement, by, quotas, now)

    async def get(self, identity: IdentityKey) -> Signed | None:
        return await _STATEMENTS.get(self._database, identity)
