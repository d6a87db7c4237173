"""The mark in PostgreSQL: see relay/store/moved.py."""

from __future__ import annotations

from relay.store.moved import MOVED_AWAY, moved_away, not_moved
from relay.store.postgres.connecting import Connection


async def check_not_moved(connection: Connection) -> None:
    """Raises Refused `moved-away`."""
    when = await connection.fetchval("SELECT value FROM meta WHERE name = $1", MOVED_AWAY)
    if when is not None:
        raise moved_away(when)


async def mark_as_moved(connection: Connection, now: int) -> None:
    await connection.execute("INSERT INTO meta (name, value) VALUES ($1, $2)", MOVED_AWAY, now)


async def take_back(connection: Connection) -> None:
    """It may be run again. Raises Refused `not-moved`."""
    async with connection.transaction():
        gone = await connection.fetch("DELETE FROM meta WHERE name = $1 RETURNING 1", MOVED_AWAY)
        if not gone:
            raise not_moved()
        await connection.execute("UPDATE home SET place = ''")  # see `revive_if_moved`
