"""The directory of an open relay: strangers share a part of it, and what nobody renews ends."""

from __future__ import annotations

import os

import pytest

from relay.refusals import TryLater
from relay.store.accounts import Account
from relay.store.contract import KNOWN_AFTER_S, MailboxName, Quotas, RelayStore, StoredHybridKey
from relay.store.rules import DEVICE_PEOPLE, DIRECTORY_MEMORY_S
from schemas.errors import Refused
from schemas.ids import DeviceKey, IdentityKey
from schemas.records import Signed
from tests.relay.store.stores import Opener
from tests.relay.support import DAY, NOW, SUITE

LATER = NOW + DIRECTORY_MEMORY_S


def device() -> DeviceKey:
    return DeviceKey(os.urandom(32))


def identity() -> IdentityKey:
    return IdentityKey(os.urandom(32))


def signed(size: int = 300) -> Signed:
    return Signed(os.urandom(size), bytes(32), bytes(64))


async def become_known(store: RelayStore, key: DeviceKey) -> None:
    await store.open_mailbox(MailboxName(key), now=NOW - KNOWN_AFTER_S)
    await store.sweep(now=NOW)


async def register(store: RelayStore, person: IdentityKey, key: DeviceKey) -> None:
    account = Account(os.urandom(8).hex(), person, b"\1")
    await store.accounts.register(account, key, "laptop", invite=None, most=9, now=NOW)


async def sweep_all(store: RelayStore, now: int) -> None:
    while await store.sweep(now=now):
        pass
    await store.probe(now=now)


async def bring_everything(store: RelayStore, key: DeviceKey) -> None:
    await store.statements.put(identity(), 1, signed(), by=key, now=NOW)
    await store.put_bundle(identity(), 1, signed(), by=key, now=NOW)
    await store.put_endpoint(key, 1, NOW + DAY, signed(), now=NOW)
    await store.put_key_package(key, SUITE, os.urandom(300), last_resort=False, now=NOW)
    await store.take_key_package(key, SUITE, os.urandom(16), now=NOW)
    await store.put_key_package(key, SUITE, os.urandom(300), last_resort=True, now=NOW)
    await store.put_key_package(key, SUITE, os.urandom(200), last_resort=True, now=NOW)
    await store.put_hybrid_key(key, StoredHybridKey(os.urandom(300), bytes(64)), now=NOW)


async def fill_with_strangers(store: RelayStore) -> None:
    """Until nothing more has room."""
    for _ in range(1000):
        try:
            await bring_everything(store, device())
        except TryLater:
            break
    with pytest.raises(TryLater) as full:
        await store.put_bundle(identity(), 1, signed(1000), by=device(), now=NOW)
    assert full.value.code == "relay-full"


async def test_strangers_fill_their_share_and_members_have_room(reopen: Opener) -> None:
    store = await reopen(Quotas(directory_bytes=24_000))
    here, ann, anns = device(), identity(), device()
    await become_known(store, here)
    await register(store, ann, anns)
    await fill_with_strangers(store)
    await store.probe(now=NOW)
    assert 11_000 < store.usage.strangers_directory_bytes <= 12_000
    assert store.usage.strangers_directory_bytes == store.usage.directory_bytes
    await store.put_bundle(identity(), 1, signed(), by=here, now=NOW)
    await store.statements.put(ann, 1, signed(), by=anns, now=NOW)
    for key in (here, anns):
        await store.put_endpoint(key, 1, NOW + DAY, signed(), now=NOW)
        await store.put_key_package(key, SUITE, b"package" + key, last_resort=False, now=NOW)
        await store.put_hybrid_key(key, StoredHybridKey(bytes(300), bytes(64)), now=NOW)
    before = store.usage
    store = await reopen(Quotas(directory_bytes=24_000))
    await store.probe(now=NOW)
    assert store.usage.strangers_directory_bytes == before.strangers_directory_bytes


async def test_what_strangers_left_ends_and_what_members_have_stays(reopen: Opener) -> None:
    store = await reopen(Quotas(directory_bytes=24_000))
    here, ann, anns = device(), identity(), device()
    await become_known(store, here)
    await register(store, ann, anns)
    package = b"package" + here
    await store.put_key_package(here, SUITE, package, last_resort=True, now=NOW)
    await store.statements.put(ann, 1, signed(), by=anns, now=NOW)
    await store.put_bundle(identity(), 1, bundle := signed(), by=here, now=NOW)
    await store.probe(now=NOW)
    members = store.usage.directory_bytes
    await fill_with_strangers(store)
    awake, sleeping = identity(), identity()
    await sweep_all(store, NOW + 2 * DAY)  # endpoints went, and make room
    for each in (awake, sleeping):
        await store.put_bundle(each, 1, bundle, by=device(), now=NOW)
    await store.put_bundle(awake, 1, bundle, by=device(), now=NOW + DAY)  # the same again
    await sweep_all(store, LATER)
    assert await store.bundle(awake) == bundle
    assert await store.bundle(sleeping) is None
    await sweep_all(store, LATER + DAY)
    assert store.usage.strangers_directory_bytes == 0
    assert store.usage.directory_bytes == members
    assert await store.statements.get(ann) is not None
    answer = await store.take_key_package(here, SUITE, bytes(16), now=LATER)
    assert answer is not None
    assert answer.package == package


async def test_who_becomes_known_leaves_the_strangers_share(store: RelayStore) -> None:
    key, other = device(), device()
    for each in (key, other):
        await store.put_key_package(each, SUITE, bytes(500) + each, last_resort=False, now=NOW)
        await store.put_endpoint(each, 1, NOW + DAY, signed(), now=NOW)
        await become_known(store, each)
    await store.probe(now=NOW)
    assert store.usage.strangers_directory_bytes == store.usage.directory_bytes > 1000
    await store.put_key_package(key, SUITE, b"more", last_resort=False, now=NOW)
    await store.probe(now=NOW)
    assert store.usage.strangers_directory_bytes == (store.usage.directory_bytes - 4) // 2
    await store.sweep(now=LATER)  # nothing was renewed; but the owner is known
    await store.probe(now=NOW)
    assert store.usage.strangers_directory_bytes == 0
    assert store.usage.directory_bytes == 2 * (500 + 32) + 4


async def test_a_device_brings_things_of_a_few_people_only(store: RelayStore) -> None:
    mal, ann, anns = device(), identity(), device()
    await become_known(store, mal)
    people = [identity() for _ in range(DEVICE_PEOPLE)]
    for person in people:
        await store.statements.put(person, 1, signed(), by=mal, now=NOW)
        await store.put_bundle(person, 1, signed(), by=mal, now=NOW)
    with pytest.raises(Refused) as refused:
        await store.statements.put(identity(), 1, signed(), by=mal, now=NOW)
    assert refused.value.code == "too-many-people"
    with pytest.raises(Refused) as refused:
        await store.put_bundle(identity(), 1, signed(), by=mal, now=NOW)
    assert refused.value.code == "too-many-people"
    await store.statements.put(people[0], 2, signed(), by=mal, now=NOW)
    await register(store, ann, anns)
    await store.statements.put(ann, 1, signed(), by=mal, now=NOW)
