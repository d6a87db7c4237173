"""Delivery tokens in the database: see relay/store/delivery_tokens.py."""

from __future__ import annotations

from collections.abc import Sequence

import apsw

from relay.store.contract import MailboxName
from relay.store.sqlite import mailboxes
from relay.store.sqlite.database import Database
from relay.store.sqlite.usage import Room
from schemas.ids import DeviceKey


class SqliteDeliveryTokens:
    """DeliveryTokens."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def set(
        self, device: DeviceKey, hashes: Sequence[bytes], *, optional: bool, now: int
    ) -> None:
        await self._database.writer.run(
            lambda connection: _set(
                connection, device, frozenset(hashes), self._database.room, now, optional=optional
            ),
            cost=32 * len(hashes),
        )

    async def of(self, device: DeviceKey) -> frozenset[bytes]:
        return await self._database.read(_of, device)


def _of(connection: apsw.Connection, device: DeviceKey) -> frozenset[bytes]:
    rows = connection.execute("SELECT hash FROM delivery_tokens WHERE device = ?", (bytes(device),))
    return frozenset(row[0] for row in rows)


def _set(
    connection: apsw.Connection,
    device: DeviceKey,
    hashes: frozenset[bytes],
    room: Room,
    now: int,
    *,
    optional: bool,
) -> None:
    name, key = MailboxName(device), bytes(device)
    mailboxes.open_mailbox(connection, name, room, now)
    held = _of(connection, device)
    connection.executemany(
        "DELETE FROM delivery_tokens WHERE device = ? AND hash = ?",
        [(key, gone) for gone in held - hashes],
    )
    connection.executemany(
        "INSERT INTO delivery_tokens (device, hash) VALUES (?, ?)",
        [(key, new) for new in hashes - held],
    )
    connection.execute(
        "UPDATE mailboxes SET guarded = ? WHERE recipient = ? AND channel = ?",
        (not optional, key, name.channel),
    )
