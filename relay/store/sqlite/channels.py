"""Channels in the SQLite file: see relay/store/channels.py."""

from __future__ import annotations

from collections.abc import Sequence

import apsw

from relay.store.channels import CHANNELS_PER_DEVICE, Channel, pair, too_many_channels
from relay.store.sqlite.database import Database
from schemas.ids import DeviceKey


class SqliteChannels:
    """A ChannelStore."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(self, maker: DeviceKey, other: DeviceKey, fresh: bytes) -> Channel:
        return await self._database.write(_create, maker, pair(maker, other), fresh)

    async def members(self, ids: Sequence[bytes]) -> list[frozenset[DeviceKey] | None]:
        return await self._database.read(_members, ids)


def _create(
    connection: apsw.Connection, maker: DeviceKey, pair: tuple[bytes, bytes], fresh: bytes
) -> Channel:
    held = connection.execute("SELECT id FROM channels WHERE low = ? AND high = ?", pair).get
    if held is not None:
        return Channel(bytes(held), made=False)
    maker_key = bytes(maker)
    count = connection.execute("SELECT count(*) FROM channels WHERE maker = ?", (maker_key,)).get
    if count >= CHANNELS_PER_DEVICE:
        raise too_many_channels()
    connection.execute(
        "INSERT INTO channels (id, low, high, maker) VALUES (?, ?, ?, ?)",
        (fresh, *pair, maker_key),
    )
    return Channel(fresh, made=True)


def _members(
    connection: apsw.Connection, ids: Sequence[bytes]
) -> list[frozenset[DeviceKey] | None]:
    found: list[frozenset[DeviceKey] | None] = []
    for id in ids:
        row = connection.execute("SELECT low, high FROM channels WHERE id = ?", (id,)).fetchone()
        found.append(None if row is None else frozenset(DeviceKey(key) for key in row if key))
    return found


def forget_device(connection: apsw.Connection, device: DeviceKey) -> None:
    """The other member can still read what came by their channels."""
    key = (bytes(device),)
    connection.execute(
        "DELETE FROM channels WHERE low = ?1 AND (high IS NULL OR high = ?1)"
        " OR high = ?1 AND low IS NULL",
        key,
    )
    connection.execute("UPDATE channels SET low = NULL, maker = NULL WHERE low = ?", key)
    connection.execute("UPDATE channels SET high = NULL, maker = NULL WHERE high = ?", key)
