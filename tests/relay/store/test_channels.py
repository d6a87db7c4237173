"""Channels: one for each pair, whoever asks."""

from __future__ import annotations

import asyncio
import os

import pytest

from relay.store.accounts import Account
from relay.store.channels import Channel
from relay.store.contract import RelayStore
from schemas.errors import Refused
from schemas.ids import DeviceKey, IdentityKey
from tests.relay.support import NOW


def device() -> DeviceKey:
    return DeviceKey(os.urandom(32))


async def test_a_pair_has_one_channel_whoever_asks(store: RelayStore) -> None:
    ann, bob, eve = device(), device(), device()
    made = await asyncio.gather(
        *(store.channels.create(ann, bob, os.urandom(16)) for _ in range(5)),
        *(store.channels.create(bob, ann, os.urandom(16)) for _ in range(5)),
    )
    assert len({channel.id for channel in made}) == 1
    assert sum(channel.made for channel in made) == 1
    other = await store.channels.create(ann, eve, os.urandom(16))
    assert other.made
    alone = await store.channels.create(ann, ann, os.urandom(16))
    unknown = os.urandom(16)
    ids = [other.id, made[0].id, unknown, alone.id]
    assert await store.channels.members(ids) == [
        frozenset({ann, eve}), frozenset({ann, bob}), None, frozenset({ann}),
    ]  # fmt: skip


async def test_nobody_fills_the_table(store: RelayStore, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("sqlite", "postgres"):
        monkeypatch.setattr(f"relay.store.{module}.channels.CHANNELS_PER_DEVICE", 20)
    ann = device()
    await asyncio.gather(*(store.channels.create(ann, device(), os.urandom(16)) for _ in range(20)))
    with pytest.raises(Refused) as raised:
        await store.channels.create(ann, device(), os.urandom(16))
    assert raised.value.code == "too-many-channels"


async def test_channels_that_others_make_do_not_count_for_the_victim(
    store: RelayStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("sqlite", "postgres"):
        monkeypatch.setattr(f"relay.store.{module}.channels.CHANNELS_PER_DEVICE", 3)
    ann, others = device(), [device() for _ in range(6)]
    for each in others:
        assert (await store.channels.create(each, ann, os.urandom(16))).made
    for _ in range(3):
        assert (await store.channels.create(ann, device(), os.urandom(16))).made
    with pytest.raises(Refused):
        await store.channels.create(ann, device(), os.urandom(16))
    assert not (await store.channels.create(ann, others[0], os.urandom(16))).made, "it is there"


async def test_a_channel_with_nobody_does_not_count(
    store: RelayStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("sqlite", "postgres"):
        monkeypatch.setattr(f"relay.store.{module}.channels.CHANNELS_PER_DEVICE", 1)
    ann, bob, identity = device(), device(), IdentityKey(os.urandom(32))
    await store.accounts.register(
        Account("bob", identity, b"\1"), bob, "x", invite=None, most=9, now=NOW
    )
    await store.channels.create(ann, bob, os.urandom(16))
    with pytest.raises(Refused):
        await store.channels.create(ann, device(), os.urandom(16))
    await store.accounts.delete(identity, now=NOW)
    assert (await store.channels.create(ann, device(), os.urandom(16))).made


async def test_a_channel_outlives_one_of_its_members(store: RelayStore) -> None:
    ann, bob = device(), device()
    people = {}
    for name, each in (("ann", ann), ("bob", bob)):
        identity = people[name] = IdentityKey(os.urandom(32))
        await store.accounts.register(
            Account(name, identity, b"\1"), each, "x", invite=None, most=9, now=NOW
        )
    channel = await store.channels.create(ann, bob, os.urandom(16))
    await store.accounts.delete(people["ann"], now=NOW)
    assert await store.channels.members([channel.id]) == [frozenset({bob})]
    fresh = os.urandom(16)
    assert await store.channels.create(ann, bob, fresh) == Channel(fresh, made=True)
    await store.accounts.delete(people["bob"], now=NOW)
    assert await store.channels.members([channel.id]) == [None]
