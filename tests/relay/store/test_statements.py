"""Relay statements: kept for good, the newest of each person."""

from __future__ import annotations

import pytest

from relay.refusals import TryLater
from relay.store.contract import Quotas, RelayStore
from schemas.errors import Refused
from schemas.ids import DeviceKey, IdentityKey
from schemas.records import Signed
from tests.relay.store.stores import Opener
from tests.relay.support import NOW

BY = DeviceKey(b"d" * 32)
ADA, BOB = IdentityKey(b"a" * 32), IdentityKey(b"b" * 32)


def signed(text: bytes) -> Signed:
    return Signed(text, b"k" * 32, b"s" * 64)


async def test_the_newest_wins_and_an_old_one_changes_nothing(store: RelayStore) -> None:
    first, second = signed(b"first"), signed(b"second")
    assert await store.statements.get(ADA) is None
    await store.statements.put(ADA, 3, first, by=BY, now=NOW)
    await store.statements.put(ADA, 5, second, by=BY, now=NOW)
    await store.statements.put(ADA, 5, second, by=BY, now=NOW)  # the same again
    for number, stale in ((3, first), (4, first), (5, first), (0, second)):
        with pytest.raises(Refused) as refused:
            await store.statements.put(ADA, number, stale, by=BY, now=NOW)
        assert refused.value.code == "stale"
    assert await store.statements.get(ADA) == second
    assert await store.statements.get(BOB) is None


async def test_they_outlive_a_restart_and_take_room_once(reopen: Opener) -> None:
    store = await reopen()
    await store.statements.put(ADA, 1, signed(bytes(1000)), by=BY, now=NOW)
    await store.statements.put(ADA, 2, signed(bytes(500)), by=BY, now=NOW)
    await store.statements.put(BOB, 1, signed(bytes(500)), by=BY, now=NOW)
    await store.probe(now=NOW)
    used = store.usage.directory_bytes
    store = await reopen()
    assert await store.statements.get(ADA) == signed(bytes(500))
    assert store.usage.directory_bytes == used < 1500, "what was replaced takes none"


async def test_a_relay_without_room_takes_no_new_one(reopen: Opener) -> None:
    store = await reopen(Quotas(directory_bytes=1000, strangers_share=1.0))
    await store.statements.put(ADA, 1, signed(bytes(400)), by=BY, now=NOW)
    with pytest.raises(TryLater) as refused:
        await store.statements.put(BOB, 1, signed(bytes(900)), by=BY, now=NOW)
    assert refused.value.code == "relay-full"
    assert await store.statements.get(ADA) == signed(bytes(400))
