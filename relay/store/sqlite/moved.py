"""The mark in SQLite: see relay/store/moved.py."""

from __future__ import annotations

import apsw

from relay.store.moved import MOVED_AWAY, moved_away, not_moved
from relay.store.sqlite.backup import mark_as_backup
from storage.sqlite import blaming_the_disk, transaction


def check_not_moved(connection: apsw.Connection) -> None:
    """Raises Refused `moved-away`."""
    when = _when(connection)
    if when is not None:
        raise moved_away(when)


def mark_as_moved(connection: apsw.Connection, now: int) -> None:
    """On disk when this returns."""
    with blaming_the_disk(), transaction(connection):
        connection.execute("INSERT INTO meta (name, value) VALUES (?, ?)", (MOVED_AWAY, now))


def take_back(connection: apsw.Connection) -> None:
    """It may be run again. Raises Refused `not-moved`."""
    with blaming_the_disk(), transaction(connection):
        if _when(connection) is None:
            raise not_moved()
        connection.execute("DELETE FROM meta WHERE name = ?", (MOVED_AWAY,))
        mark_as_backup(connection)


def _when(connection: apsw.Connection) -> int | None:
    value = connection.execute("SELECT value FROM meta WHERE name = ?", (MOVED_AWAY,)).get
    return None if value is None else int(value)
