"""The directory: hybrid keys and endpoint records per device, bundles per identity."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from relay.store.contract import SWEEP_ROWS, Quotas, StoredHybridKey
from relay.store.postgres import directory_owners, usage
from relay.store.postgres.connecting import Connection
from relay.store.postgres.database import Database, lock
from relay.store.postgres.signed_records import SignedRecords
from schemas.ids import DeviceKey
from schemas.records import Signed

BUNDLES: Final = SignedRecords("bundles", owner="identity", number="number")
ENDPOINTS: Final = SignedRecords(
    "endpoints", owner="device", number="sequence", others=("expires",)
)


async def put_hybrid_key(
    connection: Connection, device: DeviceKey, key: StoredHybridKey, quotas: Quotas, now: int
) -> None:
    await lock(connection, b"hybrid key", bytes(device))
    held = await connection.fetchval(
        "SELECT octet_length(hybrid_key) + octet_length(signature) FROM hybrid_keys"
        " WHERE device = $1",
        bytes(device),
    )
    added = len(key.hybrid_key) + len(key.signature) - (held or 0)
    changes = await directory_owners.keep(connection, bytes(device), device, added, quotas, now)
    await connection.execute(
        "INSERT INTO hybrid_keys (device, hybrid_key, signature) VALUES ($1, $2, $3)"
        " ON CONFLICT (device) DO UPDATE SET hybrid_key = excluded.hybrid_key,"
        " signature = excluded.signature",
        *(bytes(device), key.hybrid_key, key.signature),
    )
    await usage.add(connection, **changes)


async def hybrid_keys(
    database: Database, devices: Sequence[DeviceKey]
) -> list[StoredHybridKey | None]:
    rows = await database.fetch(
        "SELECT device, hybrid_key, signature FROM hybrid_keys WHERE device = ANY ($1::bytea[])",
        [bytes(device) for device in devices],
    )
    found = {row["device"]: StoredHybridKey(row["hybrid_key"], row["signature"]) for row in rows}
    return [found.get(bytes(device)) for device in devices]


async def endpoint(database: Database, device: DeviceKey, now: int) -> Signed | None:
    rows = await database.fetch(
        "SELECT signed FROM endpoints WHERE device = $1 AND expires > $2", bytes(device), now
    )
    return Signed.decode(rows[0]["signed"]) if rows else None


async def sweep(connection: Connection, now: int) -> int:
    gone = await connection.fetch(
        "DELETE FROM endpoints e USING (SELECT endpoints.device, o.stranger FROM endpoints JOIN"
        "  directory_owners o ON o.owner = endpoints.device"
        "  WHERE expires <= $1 LIMIT $2 FOR UPDATE SKIP LOCKED) AS old"
        " WHERE e.device = old.device RETURNING octet_length(e.signed) AS size, old.stranger",
        now,
        SWEEP_ROWS,
    )
    seen, changes = await directory_owners.sweep(connection, now)
    changes["directory_bytes"] -= sum(row["size"] for row in gone)
    changes["strangers_directory_bytes"] -= sum(row["size"] for row in gone if row["stranger"])
    await usage.add(connection, **changes)
    return len(gone) + seen
