"""The fixtures, unpacked, and as old as the README says or as if they were made just now."""

from __future__ import annotations

import tarfile
import time
from pathlib import Path

import apsw

FIXTURES = Path(__file__).parent / "fixtures"
PEOPLE = ("ada", "bob", "cy", "dan")  # of the first version
SPLIT = ("eve", "fay")  # of the second


def unpack(name: str, into: Path) -> Path:
    """The folder `name` in `into`, as it was left."""
    with tarfile.open(FIXTURES / f"{name}.tar.xz") as archive:
        archive.extractall(into, filter="data")
    return into / name


def rows(database: Path) -> dict[str, list[tuple[object, ...]]]:
    """All rows of all tables, whatever version the database has."""
    connection = apsw.Connection(str(database))
    try:
        tables = connection.execute(
            "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
        ).fetchall()
        names = [str(row[0]) for row in tables]
        return {
            name: sorted(connection.execute(f"SELECT * FROM {name}"), key=repr) for name in names
        }
    finally:
        connection.close()


def schema(database: Path) -> set[str]:
    """The statements that make its tables and indices."""
    connection = apsw.Connection(str(database))
    try:
        found = connection.execute("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL")
        return {str(row[0]) for row in found}
    finally:
        connection.close()


def version(database: Path) -> int:
    connection = apsw.Connection(str(database))
    try:
        return int(str(connection.pragma("user_version")))
    finally:
        connection.close()


def _move(database: Path, columns: dict[str, tuple[str, ...]], made: float) -> None:
    connection = apsw.Connection(str(database))
    later = time.time() - made
    for table, names in columns.items():
        for name in names:
            kind = (
                f"CAST({name} + {later} AS INTEGER)"
                if "relay" in database.name
                else (f"{name} + {later}")
            )
            connection.execute(f"UPDATE {table} SET {name} = {kind}")
    connection.close()


def renew_home(home: Path) -> None:
    """As if its last message had been written now: what expires is not what is tested."""
    database = home / "node.db"
    connection = apsw.Connection(str(database))
    made = float(str(connection.execute("SELECT max(received) FROM messages").get))
    connection.close()
    columns = {
        "outbox": ("next_try", "expires"),
        "ledger": ("held_until", "updated"),
        "future": ("arrival",),
        "hybrid_keys": ("created",),
        "ciphertexts": ("until",),
        "seen_parcels": ("until",),
        "snapshots": ("taken",),
        "key_packages": ("created",),
        "messages": ("received",),
    }
    _move(database, columns, made)


def renew_relay(folder: Path) -> None:
    """Its parcels have their seven days again."""
    database = folder / "relay.db"
    connection = apsw.Connection(str(database))
    made = float(str(connection.execute("SELECT max(expires) FROM parcels").get)) - 7 * 86_400
    connection.close()
    _move(database, {"parcels": ("expires",), "endpoints": ("expires",)}, made)
