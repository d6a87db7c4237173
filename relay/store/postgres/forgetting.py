"""All that is kept for devices, or an identity, deleted: when one is revoked, or its account goes.

Whoever adds a table with a device or an identity in it adds it here, or to the
directory in directory_owners.py;
tests/relay/store/test_forgetting.py finds the ones that are left out.
"""

from __future__ import annotations

from collections.abc import Sequence

from relay.store.postgres import blobs, channels, directory_owners, usage
from relay.store.postgres.connecting import Connection
from schemas.ids import DeviceKey, IdentityKey


async def forget(
    connection: Connection, devices: Sequence[DeviceKey], identity: IdentityKey | None = None
) -> None:
    """Not the account and its devices, nor sessions. The last statement of its transaction."""
    keys = sorted(bytes(device) for device in devices)
    changes = await _forget_mailboxes(connection, keys)
    await connection.execute("DELETE FROM delivery_tokens WHERE device = ANY ($1::bytea[])", keys)
    await connection.execute("DELETE FROM damaged WHERE recipient = ANY ($1::bytea[])", keys)
    await blobs.drop_all(connection, keys)
    owners = keys if identity is None else [*keys, bytes(identity)]
    changes |= await directory_owners.forget(connection, owners)
    await connection.execute(
        "UPDATE directory_owners SET device = '' WHERE device = ANY ($1::bytea[])", keys
    )
    for device in sorted(devices):
        await channels.forget_device(connection, device)
    await usage.add(connection, **changes)


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
