"""Strangers who take too much: rates, connections, made-up mailboxes, floods of key packages."""

from __future__ import annotations

import dataclasses
import os
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path

import pytest

from relay.callers import Caller, Callers
from relay.limits import RelayLimits
from relay.refusals import TryLater
from relay.server import Relay, open_relay
from relay.store.contract import KNOWN_AFTER_S, MailboxName, Quotas
from relay.store.sqlite.store import SqliteStore
from relay.store.sqlite.usage import count
from schemas.errors import Refused
from schemas.ids import DeviceKey
from schemas.node_service import Enqueued
from tests.relay.support import (
    NOW,
    SUITE,
    Clock,
    client_of,
    config_for,
    counting_loopback,
    new_device,
    parcel,
    within,
)
from tests.transport.rpc_by_hand import Peer, bootstrap
from transport.admission import prefix_of


class Ticking:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def device() -> DeviceKey:
    return DeviceKey(os.urandom(32))


def test_prefixes() -> None:
    assert prefix_of("203.0.113.77") == prefix_of("::ffff:203.0.113.9") is not None
    assert prefix_of("203.0.113.77") != prefix_of("203.0.114.77")
    assert prefix_of("2001:db8:1:2ff::9") == prefix_of("2001:db8:1:200::1")
    assert prefix_of("2001:db8:1:2ff::9") != prefix_of("2001:db8:1:3ff::9")
    for loopback in ("127.0.0.1", "::1", "::ffff:127.0.0.1"):
        assert prefix_of(loopback) is None


def test_connections_are_capped_by_device_prefix_and_in_all() -> None:
    limits = RelayLimits(connections=6, connections_per_prefix=3, connections_per_device=2)
    callers = Callers(limits, Ticking())
    with ExitStack() as stack:

        def come(device: DeviceKey, host: str) -> Caller:
            return stack.enter_context(callers.connected(device, host))

        one = device()
        for _ in range(2):
            callers.introduce(come(one, "198.51.100.1"))
        with pytest.raises(TryLater):
            come(one, "192.0.2.1")
        callers.introduce(come(device(), "198.51.100.9"))
        another = come(device(), "198.51.100.10")
        with pytest.raises(TryLater):
            callers.introduce(another)
        callers.keep(another, registered=True)
        for _ in range(2):
            callers.introduce(come(device(), "127.0.0.1"))
        with pytest.raises(TryLater):
            come(device(), "203.0.113.1")
    assert len(callers) == 0
    with callers.connected(one, "198.51.100.1"):
        assert len(callers) == 1


def test_anonymous_connections_make_room_and_take_no_members_place() -> None:
    limits = RelayLimits(connections=6, connections_per_prefix=2, anonymous_per_prefix=3)
    clock = Ticking()
    callers = Callers(limits, clock)
    gone: list[Caller] = []
    with ExitStack() as stack:

        def come(host: str) -> Caller:
            clock.now += 1
            caller = stack.enter_context(callers.connected(device(), host))
            caller.hang_up = lambda reason: gone.append(caller)
            return caller

        held = [come("198.51.100.1") for _ in range(3)]
        clock.now += 1
        held[0].admit()  # a call: it is in use
        member = come("198.51.100.2")
        assert gone == [held[1]], "that was unused for the longest"
        callers.introduce(member)
        for _ in range(10):
            come("198.51.100.3")
        assert member not in gone
        assert len(callers) == 4
        for _ in range(10):  # the relay is full: who holds the most gives
            newest = come("203.0.113.1")
        assert member not in gone
        assert newest not in gone
        assert len(callers) == 6
    assert len(callers) == 0


async def test_a_village_writes_and_reads_while_somebody_there_holds_places(
    kj: None, clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counting_loopback(monkeypatch)
    limits = RelayLimits(connections=20, connections_per_prefix=4, anonymous_per_prefix=5)
    bob = new_device()
    config = config_for(tmp_path, limits=limits)
    async with (
        open_relay(config, clock=clock) as relay,
        client_of(relay, bob) as owner,
        AsyncExitStack() as stack,
    ):
        assert (await owner.peek()).error.code == ""
        for _ in range(12):  # of which most are gone when the last has come
            await stack.enter_async_context(client_of(relay))
        for _ in range(8):
            async with client_of(relay) as guise:
                assert (await guise.enqueue(parcel(bob.public))).error.code == ""
        async with client_of(relay) as member:
            assert (await member.peek()).error.code == ""
            assert len((await owner.peek()).parcels) == 8
        assert relay.counters["made-room"] >= 8
        assert relay.counters["too-many-connections"] == 0


def test_reconnecting_does_not_refill() -> None:
    limits = RelayLimits(device_calls_burst=5, device_calls_rate=1)
    clock = Ticking()
    callers = Callers(limits, clock)
    one = device()
    for _ in range(5):
        with callers.connected(one, "203.0.113.1") as caller:
            caller.admit()
    with callers.connected(one, "203.0.113.1") as caller:
        with pytest.raises(TryLater) as raised:
            caller.admit()
        assert raised.value.code == "try-later"
        assert raised.value.retry_after_ms > 0
        clock.now += raised.value.retry_after_ms / 1000
        caller.admit()


def test_new_devices_of_one_place_are_limited_and_known_ones_come_again() -> None:
    limits = RelayLimits(newcomers_burst=3, newcomers_rate=1)
    callers = Callers(limits, Ticking())
    first = device()
    for each in (first, device(), device()):
        with callers.connected(each, "203.0.113.1") as caller:
            callers.introduce(caller)
            callers.introduce(caller)  # once per connection
    with callers.connected(device(), "203.0.113.200") as caller, pytest.raises(TryLater):
        callers.introduce(caller)
    for each, host in ((first, "203.0.113.1"), (device(), "192.0.2.1")):
        with callers.connected(each, host) as caller:
            callers.introduce(caller)


async def test_a_flood_of_calls_or_bytes_is_told_to_come_later(
    kj: None, clock: Clock, tmp_path: Path
) -> None:
    limits = RelayLimits(
        connection_calls_burst=10,
        connection_calls_rate=1,
        device_bytes_burst=10_000,
        device_bytes_rate=1_000,
    )
    async with open_relay(config_for(tmp_path, limits=limits), clock=clock) as relay:
        async with client_of(relay) as client:
            codes = [await client.code("health") for _ in range(12)]
            assert codes[:10] == [""] * 10
            refused = await client.call("health")
            assert refused.error.code == "try-later"
            assert refused.error.retryAfterMs > 0
        async with client_of(relay) as client:
            big = parcel(new_device().public, size=20_000)
            assert (await client.enqueue(big)).error.code == ""  # known only when it is here
            assert (await client.enqueue(big)).error.code == "try-later"
            assert relay.desk.refusals["try-later"] >= 3
        async with client_of(relay) as another:
            assert await another.code("health") == "", "others do not suffer"


# Room


@pytest.fixture
def quotas() -> Quotas:
    return Quotas(total_bytes=10_000, total_mailboxes=20, directory_bytes=2_000)


async def enqueue(store: SqliteStore, recipient: DeviceKey, size: int, now: int = NOW) -> str:
    [outcome] = await store.enqueue([parcel(recipient, size=size, expires=now + 10**6)], now=now)
    return "" if isinstance(outcome, Enqueued) else outcome.code


async def test_made_up_recipients_do_not_take_the_room_of_known_ones(
    tmp_path: Path, quotas: Quotas
) -> None:
    store = await SqliteStore.open(tmp_path / "relay.db", quotas)
    bob = device()
    await store.open_mailbox(MailboxName(bob), now=NOW)
    later = NOW + KNOWN_AFTER_S
    await store.sweep(now=later)
    # A million strangers: the first few fit, then nothing more does.
    codes = [await enqueue(store, device(), 1_000, later) for _ in range(8)]
    assert codes == [""] * 5 + ["relay-full"] * 3
    assert await enqueue(store, bob, 4_000, later) == ""
    assert await enqueue(store, bob, 4_000, later) == "relay-full", "the disk has an end"
    assert store.usage.bytes == 9_000
    assert store.usage.strangers_bytes == 5_000
    await store.close()


async def test_made_up_mailboxes_are_bounded_in_number_and_go_when_they_are_empty(
    tmp_path: Path, quotas: Quotas
) -> None:
    store = await SqliteStore.open(tmp_path / "relay.db", quotas)
    codes = [await enqueue(store, device(), 1) for _ in range(12)]
    assert codes == [""] * 10 + ["relay-full"] * 2
    assert store.usage.mailboxes == 10
    while await store.sweep(now=NOW + 10**7):
        pass
    assert store.usage.mailboxes == store.usage.strangers == store.usage.parcels == 0
    [outcome] = await store.enqueue([parcel(device())], now=NOW)
    assert isinstance(outcome, Enqueued)
    assert outcome.sequence > 1, "numbers go on above those of mailboxes that are gone"
    await store.close()


async def test_the_counts_are_those_of_the_rows_after_everything(
    tmp_path: Path, quotas: Quotas
) -> None:
    store = await SqliteStore.open(tmp_path / "relay.db", quotas)
    bob = device()

    async def broken() -> None:
        def work(connection: object) -> None:
            store._room.add(1_000, known=True)
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await store.database.writer.run(work)

    item = parcel(bob)
    await store.enqueue([item, parcel(bob), item], now=NOW)
    await store.acknowledge(MailboxName(bob), [1, 1, 7])
    await store.put_key_package(bob, SUITE, b"x" * 100, last_resort=False, now=NOW)
    await store.put_key_package(bob, SUITE, b"y" * 100, last_resort=True, now=NOW)
    await store.put_key_package(bob, SUITE, b"z" * 50, last_resort=True, now=NOW)
    await store.take_key_package(bob, SUITE, bytes(16), now=NOW)
    await broken()
    counted = store.usage
    assert counted == await store.database.read(count)
    assert counted.parcels == 1
    assert counted.directory_bytes == 150
    await store.sweep(now=NOW + 10**8)
    assert store.usage == await store.database.read(count)
    await store.close()


async def test_a_flood_of_key_packages_has_an_end(tmp_path: Path, quotas: Quotas) -> None:
    quotas = dataclasses.replace(quotas, strangers_share=1.0)
    store = await SqliteStore.open(tmp_path / "relay.db", quotas)
    for _ in range(4):
        await store.put_key_package(device(), SUITE, os.urandom(500), last_resort=False, now=NOW)
    with pytest.raises(Refused) as raised:
        await store.put_key_package(device(), SUITE, os.urandom(500), last_resort=True, now=NOW)
    assert raised.value.code == "relay-full"
    assert await enqueue(store, device(), 100) == "", "mail has room of its own"
    await store.close()


# What Cap'n Proto itself would keep for a stranger


async def test_a_client_that_finishes_nothing_loses_its_stream_and_is_counted(
    relay: Relay,
) -> None:
    async with client_of(relay) as client:
        peer = Peer(await client.connection.open_stream())
        for question in range(1_000):
            await peer.send(bootstrap(question))
        await within(peer.read())
        assert peer.answers < 1_000
        assert relay.counters["rpc-unfinished"] == 1
        assert await client.code("health") == "", "its other stream goes on"


async def test_what_is_published_is_charged_by_its_bytes(
    kj: None, clock: Clock, tmp_path: Path
) -> None:
    limits = RelayLimits(connection_bytes_burst=2_000, connection_bytes_rate=1)
    async with (
        open_relay(config_for(tmp_path, limits=limits), clock=clock) as relay,
        client_of(relay) as client,
    ):
        upload = {"identityKey": bytes(client.device.public), "suite": SUITE}
        assert await client.code("uploadKeyPackage", package=bytes(3_000), **upload) == ""
        assert await client.code("health") == "try-later"
