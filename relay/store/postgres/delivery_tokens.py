"""Delivery tokens in the database: see relay/store/delivery_tokens.py.

What came with each is counted by the functions of 0001_first.sql.
"""

from __future__ import annotations

from collections.abc import Sequence

from relay.store.contract import MailboxName, Quotas
from relay.store.postgres import mailboxes
from relay.store.postgres.connecting import Connection
from relay.store.postgres.database import Database
from schemas.ids import DeviceKey


class PostgresDeliveryTokens:
    """DeliveryTokens."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def set(
        self, device: DeviceKey, hashes: Sequence[bytes], *, optional: bool, now: int
    ) -> None:
        await self._database.write(
            _set, device, frozenset(hashes), optional, self._database.quotas, now
        )

    async def of(self, device: DeviceKey) -> frozenset[bytes]:
        rows = await self._database.fetch(
            "SELECT hash FROM delivery_tokens WHERE device = $1", bytes(device)
        )
        return frozenset(row["hash"] for row in rows)


async def _set(
    connection: Connection,
    device: DeviceKey,
    hashes: frozenset[bytes],
    optional: bool,
    quotas: Quotas,
    now: int,
) -> None:
    key = bytes(device)
    await mailboxes.open_mailbox(connection, MailboxName(device), quotas, now)
    # Before the tokens, as whoever brings parcels does.
    await connection.execute(
        "UPDATE mailboxes SET guarded = $2 WHERE recipient = $1 AND channel = ''", key, not optional
    )
    await connection.execute(
        "DELETE FROM delivery_tokens WHERE device = $1 AND NOT hash = ANY ($2::bytea[])",
        key,
        list(hashes),
    )
    await connection.execute(
        "INSERT INTO delivery_tokens (device, hash)"
        " SELECT $1, hash FROM unnest($2::bytea[]) AS hash ON CONFLICT DO NOTHING",
        key,
        list(hashes),
    )
