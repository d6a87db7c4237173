"""All that is kept for devices, or an identity, deleted: when one is revoked, or its account goes.

Whoever adds a table with a device or an identity in it adds it here;
tests/relay/store/test_forgetting.py finds the ones that are left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from relay.store.postgres import blobs, channels, usage
from relay.store.postgres.connecting import Connection
from schemas.ids import DeviceKey, IdentityKey

# Tables of the directory, and the bytes of a row that count there
_OF_DEVICE: Final = (
    ("key_packages", "coalesce(octet_length(package), 0)"),
    ("kp_requests", "coalesce(octet_length(answer), 0)"),
    ("hybrid_keys", "octet_length(hybrid_key) + octet_length(signature)"),
    ("endpoints", "octet_length(signed)"),
)
_OF_IDENTITY: Final = (
    ("bundles", "octet_length(signed)"),
    ("relay_statements", "octet_length(signed)"),
)


async def forget(
    connection: Connection, devices: Sequence[DeviceKey], identity: IdentityKey | None = None
) -> None:
    """Not the account and its devices, nor sessions. The last statement of its transaction."""
    keys = sorted(bytes(device) for device in devices)
    changes = await _forget_mailboxes(connection, keys)
    await connection.execute("DELETE FROM delivery_tokens WHERE device = ANY ($1::bytea[])", keys)
    await connection.execute("DELETE FROM damaged WHERE recipient = ANY ($1::bytea[])", keys)
    await blobs.drop_all(connection, keys)
    freed = 0
    for table, size in _OF_DEVICE:
        freed += await _delete(connection, table, "device", size, keys)
    if identity is not None:
        for table, size in _OF_IDENTITY:
            freed += await _delete(connection, table, "identity", size, [bytes(identity)])
    for device in sorted(devices):
        await channels.forget_device(connection, device)
    await usage.add(connection, **changes, directory_bytes=-freed)


async def _delete(
    connection: Connection, table: str, column: str, size: str, keys: list[bytes]
) -> int:
    """The bytes that were there."""
    rows = await connection.fetch(
        f"DELETE FROM {table} WHERE {column} = ANY ($1::bytea[]) RETURNING {size}",  # noqa: S608
        keys,
    )
    return sum(row[0] for row in rows)


async def _forget_mailboxes(connection: Connection, recipients: list[bytes]) -> dict[str, int]:
    """How the counts change. Locks the mailboxes in the order that everybody does."""
    held = await connection.fetch(
        "SELECT id, next_seq, parcels, bytes, known FROM mailboxes"
        " WHERE recipient = ANY ($1::bytea[]) ORDER BY recipient, channel FOR UPDATE",
        recipients,
    )
    if not held:
        return {}
    ids = [row["id"] for row in held]
    await connection.execute("DELETE FROM parcels WHERE mailbox = ANY ($1::bigint[])", ids)
    await connection.execute("DELETE FROM mailboxes WHERE id = ANY ($1::bigint[])", ids)
    # Numbers are never given twice.
    await connection.execute(
        "INSERT INTO meta AS m (name, value) VALUES ('first_seq', greatest($1::bigint, 1))"
        " ON CONFLICT (name) DO UPDATE SET value = greatest(m.value, excluded.value)",
        max(row["next_seq"] for row in held),
    )
    strangers = [row for row in held if not row["known"]]
    return {
        "mailboxes": -len(held),
        "strangers": -len(strangers),
        "parcels": -sum(row["parcels"] for row in held),
        "bytes": -sum(row["bytes"] for row in held),
        "strangers_bytes": -sum(row["bytes"] for row in strangers),
    }
