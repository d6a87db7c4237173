"""Whose the rows of the directory are: who shares its room, and until when it keeps them.

The owner of key packages, hybrid keys and endpoint records is a device; of bundles and relay
statements an identity. See "Owners" in relay/store/rules.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import apsw

from relay.store.contract import SWEEP_ROWS
from relay.store.rules import DIRECTORY_MEMORY_S, check_people
from relay.store.sqlite.usage import DIRECTORY, Room
from schemas.ids import DeviceKey

_KNOWN: Final = """
    SELECT EXISTS (SELECT 1 FROM accounts WHERE identity = ?1),
        EXISTS (SELECT 1 FROM mailboxes WHERE recipient = ?2 AND channel = x'' AND known)
        OR EXISTS (SELECT 1 FROM account_devices WHERE device = ?2 AND revoked IS NULL)
"""


def keep(
    connection: apsw.Connection, owner: bytes, by: DeviceKey, added: int, room: Room, now: int
) -> None:
    """Before `added` bytes more are kept for `owner`, brought by the device `by`.

    Raises TryLater `relay-full`, Refused `too-many-people`.
    """
    brought_by, was_stranger = connection.execute(
        "SELECT device, stranger FROM directory_owners WHERE owner = ?", (owner,)
    ).fetchone() or (None, False)
    has_account, device_known = _known(connection, owner, by)
    if owner != by and not has_account and brought_by != by:
        check_people(
            connection.execute(
                "SELECT count(*) FROM directory_owners WHERE device = ?1 AND owner != ?1",
                (bytes(by),),
            ).get
        )
    stranger = not (has_account or device_known) and (brought_by is None or bool(was_stranger))
    room.add_directory(added, stranger=stranger)
    if was_stranger and not stranger:
        room.usage.strangers_directory_bytes -= _held(connection, owner)
    connection.execute(
        "INSERT OR REPLACE INTO directory_owners (owner, device, renewed, stranger)"
        " VALUES (?, ?, ?, ?)",
        (owner, bytes(by), now, stranger),
    )


def _known(connection: apsw.Connection, owner: bytes, device: bytes) -> tuple[bool, bool]:
    """Whether the owner has an account; whether the device is one of an account, or its mailbox is
    known."""
    has_account, device_known = connection.execute(_KNOWN, (owner, bytes(device))).get
    return bool(has_account), bool(device_known)


def _held(connection: apsw.Connection, owner: bytes) -> int:
    return sum(
        connection.execute(
            f"SELECT ifnull(sum({size}), 0) FROM {table} WHERE {column} = ?",  # noqa: S608
            (owner,),
        ).get
        for table, column, size in DIRECTORY
    )


def freed(connection: apsw.Connection, owner: bytes, size: int, room: Room) -> None:
    """Rows of so many bytes are gone."""
    stranger = connection.execute(
        "SELECT stranger FROM directory_owners WHERE owner = ?", (owner,)
    ).get
    room.add_directory(-size, stranger=bool(stranger))


def freed_each(connection: apsw.Connection, rows: Sequence[tuple[Any, ...]], room: Room) -> None:
    """Rows that are gone, as (owner, bytes)."""
    for owner, size in rows:
        freed(connection, owner, size, room)


def forget(connection: apsw.Connection, owner: bytes, room: Room) -> None:
    """All that the directory has of it."""
    freed(connection, owner, _held(connection, owner), room)
    for table, column, _ in DIRECTORY:
        connection.execute(f"DELETE FROM {table} WHERE {column} = ?", (owner,))  # noqa: S608
    connection.execute("DELETE FROM directory_owners WHERE owner = ?", (owner,))


def sweep(connection: apsw.Connection, room: Room, now: int) -> int:
    """Forget strangers that nobody has renewed for DIRECTORY_MEMORY_S."""
    rows: list[Any] = connection.execute(
        "SELECT owner, device, stranger FROM directory_owners WHERE renewed <= ? LIMIT ?",
        (now - DIRECTORY_MEMORY_S, SWEEP_ROWS),
    ).fetchall()
    for owner, device, stranger in rows:
        if not any(_known(connection, owner, device)):
            forget(connection, owner, room)
            continue
        if stranger:
            room.usage.strangers_directory_bytes -= _held(connection, owner)
        connection.execute(
            "UPDATE directory_owners SET renewed = ?, stranger = 0 WHERE owner = ?", (now, owner)
        )
    return len(rows)
