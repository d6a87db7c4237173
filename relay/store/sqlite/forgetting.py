"""All that is kept for a device, or an identity, deleted: when it is revoked, or its account goes.

Whoever adds a table with a device or an identity in it adds it here, or to the
directory in usage.py;
tests/relay/store/test_forgetting.py finds the ones that are left out.
"""

from __future__ import annotations

from typing import Any

import apsw

from relay.store.sqlite import blobs, channels, directory_owners
from relay.store.sqlite.mailboxes import RAISE_FIRST
from relay.store.sqlite.usage import Room
from schemas.ids import DeviceKey, IdentityKey


def forget_device(connection: apsw.Connection, device: DeviceKey, room: Room) -> None:
    """Not its registration in an account, nor its session."""
    key = bytes(device)
    directory_owners.forget(connection, key, room)
    connection.execute("UPDATE directory_owners SET device = x'' WHERE device = ?", (key,))
    _forget_mailboxes(connection, key, room)
    connection.execute("DELETE FROM delivery_tokens WHERE device = ?", (key,))
    connection.execute("DELETE FROM damaged WHERE recipient = ?", (key,))
    blobs.drop_all(connection, device)
    channels.forget_device(connection, device)


def forget_identity(connection: apsw.Connection, identity: IdentityKey, room: Room) -> None:
    """Not its account."""
    directory_owners.forget(connection, bytes(identity), room)


def _forget_mailboxes(connection: apsw.Connection, recipient: bytes, room: Room) -> None:
    held: list[Any] = connection.execute(
        "SELECT id, next_seq, parcels, bytes, known FROM mailboxes WHERE recipient = ?",
        (recipient,),
    ).fetchall()
    for mailbox, next_sequence, parcels, size, known in held:
        connection.execute("DELETE FROM parcels WHERE mailbox = ?", (mailbox,))
        connection.execute("DELETE FROM mailboxes WHERE id = ?", (mailbox,))
        connection.execute(RAISE_FIRST, (next_sequence,))  # numbers are never given twice
        room.remove(parcels, size, known=bool(known))
        room.usage.mailboxes -= 1
        room.usage.strangers -= not known
