"""A deleted account leaves nothing behind, in whatever table; and takes nothing of others along."""

from __future__ import annotations

import hashlib
import os
from typing import Any, cast

import apsw

from relay.store.accounts import Account
from relay.store.contract import MailboxName, RelayStore, StoredHybridKey
from relay.store.sqlite.store import SqliteStore
from schemas.ids import BlobId, DeviceKey, IdentityKey
from schemas.limits import BLOB_CHUNK
from schemas.node_service import Enqueued
from schemas.records import Signed
from tests.relay.support import DAY, NOW, SUITE, parcel

OWN_COLUMNS = {"device", "recipient", "identity", "owner", "low", "high"}


def signed(identity: bytes) -> Signed:
    return Signed(b"signed by " + identity, bytes(identity), bytes(64))


async def fill(store: RelayStore, name: str) -> tuple[IdentityKey, DeviceKey]:
    """One of everything that a relay keeps for an account with a device."""
    identity, device = IdentityKey(os.urandom(32)), DeviceKey(os.urandom(32))
    account = Account(name, identity, b"\1")
    await store.accounts.register(account, device, "laptop", invite=None, most=9, now=NOW)
    await store.accounts.start_session(
        account, device, os.urandom(32), issued=NOW, expires=NOW + DAY
    )
    channel = await store.channels.create(device, DeviceKey(os.urandom(32)), os.urandom(16))
    await store.open_mailbox(MailboxName(device), now=NOW)
    await store.delivery_tokens.set(device, [os.urandom(32)], optional=True, now=NOW)
    parcels = [parcel(device), parcel(device), parcel(device, channel=channel.id)]
    assert all(isinstance(each, Enqueued) for each in await store.enqueue(parcels, now=NOW))
    await cast(Any, store)._set_aside(MailboxName(device), [1], NOW)
    for package in (b"one", b"two"):
        await store.put_key_package(device, SUITE, package + device, last_resort=False, now=NOW)
    await store.put_key_package(device, SUITE, b"last" + device, last_resort=True, now=NOW)
    await store.take_key_package(device, SUITE, os.urandom(16), now=NOW)
    await store.put_hybrid_key(device, StoredHybridKey(os.urandom(1216), bytes(64)), now=NOW)
    await store.put_endpoint(device, 1, NOW + DAY, signed(device), now=NOW)
    await store.put_bundle(identity, 1, signed(identity), by=device, now=NOW)
    await store.statements.put(identity, 1, signed(identity), by=device, now=NOW)
    chunk = os.urandom(BLOB_CHUNK)
    blob = BlobId(hashlib.sha256(chunk).digest())
    await store.blobs.append(device, blob, 0, chunk, BLOB_CHUNK, expires=NOW + DAY, now=NOW)
    return identity, device


Rows = dict[str, list[dict[str, object]]]  # by table


async def all_rows(store: RelayStore) -> Rows:
    """Every row of every table, whatever the database; one of nulls for an empty table."""
    return await (_sqlite_rows(store) if isinstance(store, SqliteStore) else _postgres_rows(store))


async def _sqlite_rows(store: SqliteStore) -> Rows:
    def read(connection: apsw.Connection) -> Rows:
        names = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall()
        found: Rows = {}
        for (table,) in names:
            columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
            rows = connection.execute(f"SELECT * FROM {table}").fetchall()
            dicts: list[dict[str, object]] = [dict(zip(columns, row, strict=True)) for row in rows]
            found[str(table)] = dicts or [dict.fromkeys(columns)]
        return found

    return await store.database.read(read)


async def _postgres_rows(store: Any) -> Rows:
    columns = await store.database.fetch(
        "SELECT table_name, column_name FROM information_schema.columns"
        " WHERE table_schema = current_schema()"
    )
    found: Rows = {}
    for table in {row[0] for row in columns}:
        rows = [dict(row) for row in await store.database.fetch(f"SELECT * FROM {table}")]
        empty: dict[str, object] = {row[1]: None for row in columns if row[0] == table}
        found[table] = rows or [empty]
    return found


def naming(rows: Rows, key: bytes) -> set[str]:
    """Tables with the key in some row."""
    return {
        table
        for table, held in rows.items()
        for row in held
        if any(isinstance(value, bytes) and key in value for value in row.values())
        or any(isinstance(value, str) and key.hex() in value for value in row.values())
    }


def owned(rows: Rows) -> set[str]:
    """Tables that have a column for somebody's key."""
    return {table for table, held in rows.items() if OWN_COLUMNS & held[0].keys()}


async def settle(store: RelayStore) -> None:
    """Let go what goes in small transactions."""
    for _ in range(3):
        await store.sweep(now=NOW)


async def test_an_account_that_is_deleted_leaves_no_row_behind(store: RelayStore) -> None:
    others = await fill(store, "bob")
    await store.probe(now=NOW)
    begun = store.usage
    before = await all_rows(store)
    identity, device = await fill(store, "ann")
    rows = await all_rows(store)
    filled = naming(rows, device) | naming(rows, identity)
    assert owned(rows) <= filled, "a table that this test does not fill"
    await store.accounts.delete(identity, now=NOW)
    await settle(store)
    rows = await all_rows(store)
    assert naming(rows, device) == naming(rows, identity) == set()
    for key in others:
        assert naming(rows, key) == naming(before, key)
    assert store.usage == begun


async def test_a_device_that_is_revoked_leaves_only_its_name_on_the_door(
    store: RelayStore,
) -> None:
    identity, device = await fill(store, "ann")
    await store.accounts.revoke_device(identity, device, now=NOW)
    await settle(store)
    rows = await all_rows(store)
    assert naming(rows, device) == {"account_devices", "audit"}
    assert await store.bundle(identity) is not None
    assert store.usage.parcels == store.usage.bytes == store.usage.mailboxes == 0


async def test_numbers_of_a_forgotten_mailbox_are_never_given_again(store: RelayStore) -> None:
    identity, device = await fill(store, "ann")
    [last] = await store.enqueue([parcel(device)], now=NOW)
    await store.accounts.delete(identity, now=NOW)
    [next_one] = await store.enqueue([parcel(device)], now=NOW)
    assert isinstance(last, Enqueued)
    assert isinstance(next_one, Enqueued)
    assert next_one.sequence > last.sequence, "a node would take it for one that it has"
