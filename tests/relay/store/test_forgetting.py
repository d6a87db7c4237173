"""A deleted account leaves nothing behind, in whatever table; and takes nothing of others along."""

from __future__ import annotations

import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import apsw
import pytest

from relay.store.accounts import Account
from relay.store.contract import MailboxName, StoredHybridKey
from relay.store.sqlite.store import SqliteStore
from relay.store.sqlite.usage import count
from schemas.ids import BlobId, DeviceKey, IdentityKey
from schemas.limits import BLOB_CHUNK
from schemas.node_service import Enqueued
from schemas.records import Signed
from tests.relay.support import DAY, NOW, SUITE, parcel

OWN_COLUMNS = {"device", "recipient", "identity", "low", "high"}


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    store = await SqliteStore.open(tmp_path / "relay.db")
    yield store
    await store.close()


def signed(identity: bytes) -> Signed:
    return Signed(b"signed by " + identity, bytes(identity), bytes(64))


async def fill(store: SqliteStore, name: str) -> tuple[IdentityKey, DeviceKey]:
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
    await store._set_aside(MailboxName(device), [1], NOW)
    for package in (b"one", b"two"):
        await store.put_key_package(device, SUITE, package + device, last_resort=False)
    await store.put_key_package(device, SUITE, b"last" + device, last_resort=True)
    await store.take_key_package(device, SUITE, os.urandom(16), now=NOW)
    await store.put_hybrid_key(device, StoredHybridKey(os.urandom(1216), bytes(64)))
    await store.put_endpoint(device, 1, NOW + DAY, signed(device))
    await store.put_bundle(identity, 1, signed(identity))
    await store.statements.put(identity, 1, signed(identity))
    chunk = os.urandom(BLOB_CHUNK)
    blob = BlobId(hashlib.sha256(chunk).digest())
    await store.blobs.append(device, blob, 0, chunk, BLOB_CHUNK, expires=NOW + DAY, now=NOW)
    return identity, device


def tables(connection: apsw.Connection) -> list[str]:
    return [
        row[0] for row in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")
    ]


def naming(connection: apsw.Connection, key: bytes) -> set[str]:
    """Tables with the key in some row."""
    return {
        table
        for table in tables(connection)
        for row in connection.execute(f"SELECT * FROM {table}")
        if any(isinstance(value, bytes) and key in value for value in row)
        or any(isinstance(value, str) and key.hex() in value for value in row)
    }


def owned(connection: apsw.Connection) -> set[str]:
    """Tables that have a column for somebody's key."""
    return {
        table
        for table in tables(connection)
        if OWN_COLUMNS & {row[1] for row in connection.execute(f"PRAGMA table_info({table})")}
    }


async def test_an_account_that_is_deleted_leaves_no_row_behind(store: SqliteStore) -> None:
    others = await fill(store, "bob")
    begun = store.usage
    before = {key: await store.database.read(naming, key) for key in others}
    identity, device = await fill(store, "ann")
    filled = await store.database.read(naming, device)
    filled |= await store.database.read(naming, identity)
    assert await store.database.read(owned) <= filled, "a table that this test does not fill"
    await store.accounts.delete(identity, now=NOW)
    for _ in range(3):
        await store.sweep(now=NOW)
    assert await store.database.read(naming, device) == set()
    assert await store.database.read(naming, identity) == set()
    assert {key: await store.database.read(naming, key) for key in others} == before
    assert store.usage == await store.database.read(count) == begun


async def test_a_device_that_is_revoked_leaves_only_its_name_on_the_door(
    store: SqliteStore,
) -> None:
    identity, device = await fill(store, "ann")
    await store.accounts.revoke_device(identity, device, now=NOW)
    for _ in range(3):
        await store.sweep(now=NOW)
    assert await store.database.read(naming, device) == {"account_devices", "audit"}
    assert await store.bundle(identity) is not None
    assert store.usage == await store.database.read(count)


async def test_numbers_of_a_forgotten_mailbox_are_never_given_again(store: SqliteStore) -> None:
    identity, device = await fill(store, "ann")
    [last] = await store.enqueue([parcel(device)], now=NOW)
    await store.accounts.delete(identity, now=NOW)
    [next_one] = await store.enqueue([parcel(device)], now=NOW)
    assert isinstance(last, Enqueued)
    assert isinstance(next_one, Enqueued)
    assert next_one.sequence > last.sequence, "a node would take it for one that it has"
