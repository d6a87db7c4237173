"""The directory: hybrid keys and endpoint records per device, bundles per identity."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import apsw

from relay.store.contract import SWEEP_ROWS, StoredHybridKey
from relay.store.sqlite import directory_owners
from relay.store.sqlite.signed_records import SignedRecords
from relay.store.sqlite.usage import Room
from schemas.ids import DeviceKey
from schemas.records import Signed

BUNDLES: Final = SignedRecords("bundles", owner="identity", number="number")
ENDPOINTS: Final = SignedRecords(
    "endpoints", owner="device", number="sequence", others=("expires",)
)


def put_hybrid_key(
    connection: apsw.Connection, device: DeviceKey, key: StoredHybridKey, room: Room, now: int
) -> None:
    held = connection.execute(
        "SELECT length(hybrid_key) + length(signature) FROM hybrid_keys WHERE device = ?",
        (bytes(device),),
    ).get
    added = len(key.hybrid_key) + len(key.signature) - (held or 0)
    directory_owners.keep(connection, bytes(device), device, added, room, now)
    connection.execute(
        "INSERT OR REPLACE INTO hybrid_keys (device, hybrid_key, signature) VALUES (?, ?, ?)",
        (bytes(device), key.hybrid_key, key.signature),
    )


def hybrid_keys(
    connection: apsw.Connection, devices: Sequence[DeviceKey]
) -> list[StoredHybridKey | None]:
    found: list[StoredHybridKey | None] = []
    for device in devices:
        row = connection.execute(
            "SELECT hybrid_key, signature FROM hybrid_keys WHERE device = ?", (bytes(device),)
        ).fetchone()
        found.append(None if row is None else StoredHybridKey(*row))
    return found


def endpoint(connection: apsw.Connection, device: DeviceKey, now: int) -> Signed | None:
    data = connection.execute(
        "SELECT signed FROM endpoints WHERE device = ? AND expires > ?", (bytes(device), now)
    ).get
    return None if data is None else Signed.decode(data)


def sweep(connection: apsw.Connection, room: Room, now: int) -> int:
    records = connection.execute(
        "DELETE FROM endpoints WHERE rowid IN"
        " (SELECT rowid FROM endpoints WHERE expires <= ? LIMIT ?)"
        " RETURNING device, length(signed)",
        (now, SWEEP_ROWS),
    ).fetchall()
    directory_owners.freed_each(connection, records, room)
    return len(records)
