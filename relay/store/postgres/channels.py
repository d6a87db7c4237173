"""Channels in PostgreSQL: see relay/store/channels.py."""

from __future__ import annotations

from collections.abc import Sequence

from relay.store.channels import CHANNELS_PER_DEVICE, Channel, pair, too_many_channels
from relay.store.postgres.connecting import Connection
from relay.store.postgres.database import Database, lock
from schemas.ids import DeviceKey


class PostgresChannels:
    """A ChannelStore."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(self, maker: DeviceKey, other: DeviceKey, fresh: bytes) -> Channel:
        return await self._database.write(_create, maker, pair(maker, other), fresh)

    async def members(self, ids: Sequence[bytes]) -> list[frozenset[DeviceKey] | None]:
        rows = await self._database.fetch(
            "SELECT id, low, high FROM channels WHERE id = ANY ($1::bytea[])", list(ids)
        )
        found = {
            row["id"]: frozenset(DeviceKey(key) for key in (row["low"], row["high"]) if key)
            for row in rows
        }
        return [found.get(id) for id in ids]


async def _create(
    connection: Connection, maker: DeviceKey, pair: tuple[bytes, bytes], fresh: bytes
) -> Channel:
    for device in sorted(set(pair)):
        await lock(connection, b"channels", device)
    held = await connection.fetchval("SELECT id FROM channels WHERE low = $1 AND high = $2", *pair)
    if held is not None:
        return Channel(held, made=False)
    maker_key = bytes(maker)
    count = await connection.fetchval("SELECT count(*) FROM channels WHERE maker = $1", maker_key)
    if count >= CHANNELS_PER_DEVICE:
        raise too_many_channels()
    await connection.execute(
        "INSERT INTO channels (id, low, high, maker) VALUES ($1, $2, $3, $4)",
        fresh,
        *pair,
        maker_key,
    )
    return Channel(fresh, made=True)


async def forget_device(connection: Connection, device: DeviceKey) -> None:
    """The other member can still read what came by their channels."""
    key = bytes(device)
    await lock(connection, b"channels", key)
    await connection.execute(
        "DELETE FROM channels WHERE low = $1 AND (high IS NULL OR high = $1)"
        " OR high = $1 AND low IS NULL",
        key,
    )
    await connection.execute("UPDATE channels SET low = NULL, maker = NULL WHERE low = $1", key)
    await connection.execute("UPDATE channels SET high = NULL, maker = NULL WHERE high = $1", key)
