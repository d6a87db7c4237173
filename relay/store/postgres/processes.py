"""The processes that share this database, and the relay's key."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from relay.store.postgres.connecting import Connection
from relay.store.postgres.database import Database
from relay.store.processes import LIVE_S, REMEMBERED_S, Process
from schemas.addresses import Address

_NOW: Final = "extract(epoch FROM clock_timestamp())::float8"
_ALL: Final = (
    f"SELECT address, run, version, started, {_NOW} - seen AS age_s, withdrawn FROM processes"  # noqa: S608
    f" WHERE seen > {_NOW} - {REMEMBERED_S}"
    f" ORDER BY (withdrawn OR seen <= {_NOW} - {LIVE_S}), started, address"
)
_FORGET: Final = f"DELETE FROM processes WHERE seen <= {_NOW} - {REMEMBERED_S}"  # noqa: S608
# An older run that has not noticed that it was replaced does not take its place again.
_ANNOUNCE: Final = (
    "INSERT INTO processes AS p (address, run, version, started, seen)"  # noqa: S608
    f" VALUES ($1, $2, $3, {_NOW}::bigint, {_NOW})"
    " ON CONFLICT (address) DO UPDATE SET run = excluded.run, version = excluded.version,"
    " started = CASE WHEN p.run = excluded.run THEN p.started ELSE excluded.started END,"
    " former = CASE WHEN p.run = excluded.run THEN p.former ELSE p.run END,"
    " seen = excluded.seen, withdrawn = false"
    " WHERE p.former IS DISTINCT FROM excluded.run"
)


class PostgresProcesses:
    """Processes over a Database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def announce(self, address: Address, run: bytes, version: str) -> list[Process]:
        await self._database.write(_announce, str(address), run, version)
        return await self.all()

    async def withdraw(self, address: Address, run: bytes) -> None:
        await self._database.write(_withdraw, str(address), run)

    async def all(self) -> list[Process]:
        return _read(await self._database.fetch(_ALL))

    async def relay_seed(self, seed: bytes) -> bytes:
        return await self._database.write(_relay_seed, seed)


async def processes(connection: Connection) -> list[Process]:
    """As `Processes.all`, over a connection of one's own."""
    return _read(await connection.fetch(_ALL))


def _read(rows: Iterable[Any]) -> list[Process]:
    return [
        Process(
            Address.parse(row["address"]),
            row["run"],
            row["version"],
            row["started"],
            row["age_s"],
            row["withdrawn"],
        )
        for row in rows
    ]


async def _announce(connection: Connection, address: str, run: bytes, version: str) -> None:
    await connection.execute(_FORGET)
    await connection.execute(_ANNOUNCE, address, run, version)


async def _withdraw(connection: Connection, address: str, run: bytes) -> None:
    await connection.execute(
        "UPDATE processes SET withdrawn = true WHERE address = $1 AND run = $2", address, run
    )


async def _relay_seed(connection: Connection, seed: bytes) -> bytes:
    await connection.execute(
        "INSERT INTO relay_key (seed) VALUES ($1) ON CONFLICT DO NOTHING", seed
    )
    return bytes(await connection.fetchval("SELECT seed FROM relay_key"))
