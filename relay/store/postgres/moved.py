"""The mark in PostgreSQL: see relay/store/moved.py. The database itself refuses what a process that
has not heard of it writes: one that started while the data were moved, or was silent for longer."""

from __future__ import annotations

from typing import Final

from relay.store.moved import MOVED_AWAY, moved_away, not_moved
from relay.store.postgres.connecting import Connection
from relay.store.postgres.failures import MOVED_STATE

_WRITTEN: Final = """
    SELECT quote_ident(tablename) FROM pg_tables WHERE schemaname = current_schema()
    AND tablename NOT IN ('meta', 'home', 'schema_version')
"""
_REFUSE: Final = f"""
    CREATE FUNCTION refuse_moved() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        RAISE EXCEPTION 'moved away' USING ERRCODE = '{MOVED_STATE}',
            DETAIL = (SELECT value FROM meta WHERE name = '{MOVED_AWAY}');
    END $$
"""  # noqa: S608 - our own names
_REFUSED: Final = (
    "CREATE TRIGGER moved_away BEFORE INSERT OR UPDATE OR DELETE ON {}"
    " FOR EACH STATEMENT EXECUTE FUNCTION refuse_moved()"
)


async def check_not_moved(connection: Connection) -> None:
    """Raises Refused `moved-away`."""
    when = await connection.fetchval("SELECT value FROM meta WHERE name = $1", MOVED_AWAY)
    if when is not None:
        raise moved_away(when)


async def mark_as_moved(connection: Connection, now: int) -> None:
    """In the transaction that holds all tables: who waits for one of them is refused after it."""
    await connection.execute("INSERT INTO meta (name, value) VALUES ($1, $2)", MOVED_AWAY, now)
    await connection.execute(_REFUSE)
    for (table,) in await connection.fetch(_WRITTEN):
        await connection.execute(_REFUSED.format(table))


async def take_back(connection: Connection) -> None:
    """It may be run again. Raises Refused `not-moved`."""
    async with connection.transaction():
        gone = await connection.fetch("DELETE FROM meta WHERE name = $1 RETURNING 1", MOVED_AWAY)
        if not gone:
            raise not_moved()
        await connection.execute("DROP FUNCTION refuse_moved() CASCADE")  # and its triggers
        await connection.execute("UPDATE home SET place = ''")  # see `revive_if_moved`
