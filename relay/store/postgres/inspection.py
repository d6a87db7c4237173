"""What `doctor` and `stats` see of a database, beside the relays that use it."""

from __future__ import annotations

import asyncio
from dataclasses import asdict, dataclass

from identity.keys import KeyPair, device_from_seed
from relay.store.contract import Quotas
from relay.store.postgres.connecting import connect
from relay.store.postgres.failures import blaming_the_server
from relay.store.postgres.processes import processes
from relay.store.postgres.schema import (
    MIGRATIONS,
    migrate,
    no_database,
    require_schema,
    schema_version,
)
from relay.store.postgres.usage import count
from relay.store.processes import Process
from schemas.ids import DeviceKey
from storage.sqlite import load_migrations


@dataclass(frozen=True, slots=True)
class Inspection:
    """`version` 0: no relay has used it yet. `probed` in Unix seconds, 0: never."""

    version: int
    newest: int  # that this program knows
    damaged: int = 0
    probed: int = 0


@dataclass(frozen=True, slots=True)
class Members:
    """The relay's key, and its processes, those alive first."""

    device: KeyPair[DeviceKey]
    processes: tuple[Process, ...]


def inspect(url: str) -> Inspection:
    """Connect as a relay does. Raises what `connect` raises."""
    return asyncio.run(_inspect(url))


def stats(url: str, quotas: Quotas, near: float) -> tuple[dict[str, float], tuple[Process, ...]]:
    """The counts of Usage, `accounts`, `mailboxes_near_quota` (with this share of it), and
    `database_bytes`; and the processes, those alive first."""
    return asyncio.run(_stats(url, quotas, near))


def members(url: str) -> Members:
    """Raises Fault `no-database` and what `connect` raises."""
    return asyncio.run(_members(url))


def bring_up_to_date(url: str) -> int:
    """Migrate the schema, as opening it does; its version. Raises as `connect` and `migrate`."""
    return asyncio.run(_bring_up_to_date(url))


async def _bring_up_to_date(url: str) -> int:
    connection = await connect(url)
    try:
        with blaming_the_server():
            return await migrate(connection)
    finally:
        connection.terminate()


async def _members(url: str) -> Members:
    connection = await connect(url)
    try:
        with blaming_the_server():
            await require_schema(connection)
            seed = await connection.fetchval("SELECT seed FROM relay_key")
            if seed is None:
                raise no_database()
            return Members(device_from_seed(bytes(seed)), tuple(await processes(connection)))
    finally:
        connection.terminate()


async def _inspect(url: str) -> Inspection:
    newest = len(load_migrations(MIGRATIONS))
    connection = await connect(url)
    try:
        with blaming_the_server():
            version = await schema_version(connection)
            if not version:
                return Inspection(version, newest)
            damaged = await connection.fetchval("SELECT count(*) FROM damaged")
            probed = await connection.fetchval("SELECT value FROM meta WHERE name = 'probed'")
            return Inspection(version, newest, damaged, probed or 0)
    finally:
        connection.terminate()


async def _stats(
    url: str, quotas: Quotas, near: float
) -> tuple[dict[str, float], tuple[Process, ...]]:
    connection = await connect(url)
    try:
        with blaming_the_server():
            held: dict[str, float] = {}
            sharing: list[Process] = []
            if await schema_version(connection):
                held |= asdict(await count(connection))
                held["accounts"] = await connection.fetchval("SELECT count(*) FROM accounts")
                sharing = await processes(connection)
                held["mailboxes_near_quota"] = await connection.fetchval(
                    "SELECT count(*) FROM mailboxes WHERE parcels >= $1 OR bytes >= $2",
                    int(quotas.mailbox_parcels * near),
                    int(quotas.mailbox_bytes * near),
                )
            held["database_bytes"] = await connection.fetchval(
                "SELECT pg_database_size(current_database())"
            )
            return held, tuple(sharing)
    finally:
        connection.terminate()
