"""The schema: numbered migrations, safe when processes start together; and what moved data need."""

from __future__ import annotations

import logging
from importlib.resources import files
from typing import Final

from relay.store.postgres.connecting import Connection
from relay.store.rules import require_version
from schemas.errors import Blame, Fault
from storage.sqlite import load_migrations

log = logging.getLogger(__name__)

MIGRATIONS = files("relay.store.postgres") / "migrations"
SEQUENCE_JUMP: Final = 2**32  # as in relay/store/sqlite/backup.py
_LOCK: Final = 0x71_6E_70_72_6F_74_6F  # "qnproto": one migrates, the others wait
_PLACE: Final = """
    SELECT CASE WHEN has_function_privilege('pg_control_system()', 'execute')
        THEN (SELECT system_identifier::text FROM pg_control_system()) ELSE '' END
        || '/' || CASE WHEN pg_is_in_recovery() THEN ''
            ELSE substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) END
        || '/' || (SELECT oid FROM pg_database WHERE datname = current_database())
        || '/' || current_schema()
"""


async def schema_version(connection: Connection) -> int:
    """The number of the last migration that ran here; 0: none."""
    if await connection.fetchval("SELECT to_regclass('schema_version')") is None:
        return 0
    return int(await connection.fetchval("SELECT max(version) FROM schema_version") or 0)


async def require_schema(connection: Connection) -> int:
    """As `schema_version`. Raises Fault `no-database`."""
    version = await schema_version(connection)
    if not version:
        raise no_database()
    return version


async def require_newest(connection: Connection) -> None:
    """Raises Fault `no-database`, `database-older`, `database-newer`."""
    require_version(await require_schema(connection), len(load_migrations(MIGRATIONS)))


def no_database() -> Fault:
    return Fault(
        "no-database",
        "no relay has used this database yet",
        blame=Blame.CALLER,
        hint="start the relay once, or check database_url",
    )


async def migrate(connection: Connection) -> int:
    """Bring the schema up to the newest migration, each in a transaction of its own; its number.

    Whoever comes meanwhile waits, then finds it done. Raises Fault `database-newer`.
    """
    steps = load_migrations(MIGRATIONS)
    # A migration may take longer than any other statement, and so may the wait for it.
    await connection.execute("SET statement_timeout = 0; SET lock_timeout = 0")
    await connection.execute("SELECT pg_advisory_lock($1)", _LOCK, timeout=3600)
    try:
        version = await schema_version(connection)
        if version > len(steps):
            raise Fault(
                "database-newer",
                f"the database has version {version}; this program knows versions to {len(steps)}",
                blame=Blame.ENVIRONMENT,
                hint="upgrade this program; an older one cannot read the newer data",
            )
        for step in steps[version:]:
            async with connection.transaction():
                await connection.execute(
                    "CREATE TABLE IF NOT EXISTS schema_version (version bigint PRIMARY KEY)"
                )
                await connection.execute(step.sql, timeout=3600)
                await connection.execute("INSERT INTO schema_version VALUES ($1)", step.number)
        await revive_if_moved(connection)
    finally:
        await connection.execute("SELECT pg_advisory_unlock($1)", _LOCK)
    return len(steps)


async def revive_if_moved(connection: Connection) -> None:
    """Data that a dump, a copy or a standby brought here are older than the world.

    Numbers that they would give out again were given out, and key packages that they hold were
    consumed. So all numbers jump ahead, and key packages for one use are dropped; their owners
    bring new ones. Asked of every new connection: a standby can have taken over.
    """
    place = await connection.fetchval(_PLACE)
    if await connection.fetchval("SELECT place FROM home") == place:
        return
    async with connection.transaction():
        await connection.execute("LOCK TABLE home IN EXCLUSIVE MODE")
        before = await connection.fetchval("SELECT place FROM home")
        if before == place:
            return
        await connection.execute(
            "INSERT INTO home (place) VALUES ($1)"
            " ON CONFLICT (one) DO UPDATE SET place = excluded.place",
            place,
        )
        if before is not None:
            await _revive(connection)


async def _revive(connection: Connection) -> None:
    await connection.execute(
        "UPDATE mailboxes SET next_seq = next_seq + $1 WHERE next_seq > 0", SEQUENCE_JUMP
    )
    await connection.execute(
        "INSERT INTO meta AS m (name, value) VALUES ('first_seq', 1 + $1::bigint)"
        " ON CONFLICT (name) DO UPDATE SET value = m.value + $1::bigint",
        SEQUENCE_JUMP,
    )
    dropped = await connection.fetchrow(
        "WITH gone AS (DELETE FROM key_packages WHERE NOT last_resort AND package IS NOT NULL"
        " RETURNING device, octet_length(package) AS size), answers AS (DELETE FROM kp_requests"
        " RETURNING device, coalesce(octet_length(answer), 0) AS size),"
        " both_of AS (SELECT * FROM gone UNION ALL SELECT * FROM answers)"
        " SELECT coalesce(sum(size), 0)::bigint,"
        " coalesce(sum(size) FILTER (WHERE o.stranger), 0)::bigint"
        " FROM both_of LEFT JOIN directory_owners o ON o.owner = both_of.device"
    )
    await connection.execute(
        "UPDATE usage SET directory_bytes = directory_bytes - $1,"
        " strangers_directory_bytes = strangers_directory_bytes - $2 WHERE shard = 0",
        *dropped,
    )
    await connection.execute("DELETE FROM sessions")  # some may have been ended since
    log.warning("these data were restored or moved here: sequence numbers jumped ahead")
