"""What only a server can do to the relay: go away, lose answers, be shared, be set up wrongly."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncIterator
from contextlib import suppress

import asyncpg
import pytest

from relay.refusals import TryLater
from relay.store.contract import MailboxName, Quotas
from relay.store.postgres import connecting, mailboxes
from relay.store.postgres.batching import QUEUED_BYTES
from relay.store.postgres.schema import SEQUENCE_JUMP
from relay.store.postgres.store import PostgresStore
from schemas.errors import Fault
from schemas.ids import DeviceKey, ParcelId
from schemas.node_service import Enqueued
from tests.relay.postgres import LOCKED, PASSWORD, PostgresServer
from tests.relay.support import NOW, SUITE, parcel, within


class Processes:
    """Stores on one database, as several relay processes have them."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._stores: list[PostgresStore] = []

    async def start(self, quotas: Quotas | None = None) -> PostgresStore:
        store = await PostgresStore.open(self.url, quotas)
        self._stores.append(store)
        return store

    async def stop(self) -> None:
        for store in self._stores:
            await store.close()


@pytest.fixture
async def processes(database_url: str) -> AsyncIterator[Processes]:
    processes = Processes(database_url)
    yield processes
    await processes.stop()


async def numbers_in(store: PostgresStore, recipient: DeviceKey) -> list[int]:
    found: list[int] = []
    while True:
        after = found[-1] if found else 0
        mailbox = await store.peek(
            MailboxName(recipient), after=after, limit=1000, max_bytes=2**24, now=NOW
        )
        if not mailbox.parcels:
            return found
        found += [each.sequence for each in mailbox.parcels]


async def send(store: PostgresStore, *recipients: DeviceKey) -> list[int]:
    outcomes = await store.enqueue([parcel(each) for each in recipients], now=NOW)
    assert all(isinstance(outcome, Enqueued) for outcome in outcomes), outcomes
    return [outcome.sequence for outcome in outcomes if isinstance(outcome, Enqueued)]


# Several processes


async def test_processes_that_write_at_once_give_each_number_once(processes: Processes) -> None:
    """Batches that lock the same mailboxes in other orders wait for each other, never in a ring."""
    stores = [await processes.start() for _ in range(4)]
    boxes = [DeviceKey(os.urandom(32)) for _ in range(8)]
    chance = random.Random(7)

    async def work(store: PostgresStore) -> None:
        for _ in range(15):
            some = chance.sample(boxes, 5)
            sent = await send(store, *some)
            if chance.random() < 0.5:
                await store.acknowledge(MailboxName(some[0]), sent[:1])
            await store.peek(MailboxName(some[1]), after=0, limit=9, max_bytes=999, now=NOW)

    await within(asyncio.gather(*(work(store) for store in stores for _ in range(3))), 60)
    held = total = 0
    for box in boxes:
        state = await stores[0].mailbox_state(MailboxName(box))
        numbers = await numbers_in(stores[1], box)
        assert len(set(numbers)) == len(numbers) == state.parcels
        assert state.bytes == 100 * state.parcels
        held += state.parcels
        total += state.next_sequence - 1
    assert total == 4 * 3 * 15 * 5, "numbers without a gap"
    await stores[2].probe(now=NOW)
    assert (stores[2].usage.parcels, stores[2].usage.mailboxes) == (held, len(boxes))
    assert all(store.trouble is None for store in stores)


async def test_a_reader_never_sees_a_number_before_a_lower_one(processes: Processes) -> None:
    """It would acknowledge, or ask for what is above; the lower one would be missed."""
    writers = [await processes.start() for _ in range(3)]
    reader, bob = await processes.start(), DeviceKey(os.urandom(32))
    done = asyncio.Event()

    async def read() -> int:
        seen = looks = 0
        while True:
            last = done.is_set()
            numbers = await numbers_in(reader, bob)
            assert numbers == list(range(1, len(numbers) + 1))
            assert len(numbers) >= seen
            seen, looks = len(numbers), looks + 1
            if last:
                return looks

    async def write(store: PostgresStore) -> None:
        for _ in range(40):
            await send(store, bob)

    reading = asyncio.create_task(read())
    await within(asyncio.gather(*(write(store) for store in writers for _ in range(2))), 60)
    done.set()
    assert await reading > 3
    assert len(await numbers_in(reader, bob)) == 240


async def test_a_key_package_is_given_once_by_whichever_process(processes: Processes) -> None:
    stores = [await processes.start() for _ in range(3)]
    bob = DeviceKey(os.urandom(32))
    packages = [b"%d" % number for number in range(30)]
    for package in packages:
        await stores[0].put_key_package(bob, SUITE, package, last_resort=False, now=NOW)
    same = os.urandom(16)
    answers = await asyncio.gather(
        *(store.take_key_package(bob, SUITE, same, now=NOW) for store in stores for _ in range(3)),
        *(
            store.take_key_package(bob, SUITE, os.urandom(16), now=NOW)
            for store in stores
            for _ in range(9)
        ),
    )
    given = [answer.package for answer in answers if answer is not None]
    assert len(set(given[:9])) == 1, "one request has one answer, wherever it comes"
    assert len(given[9:]) == len(set(given[9:]) - set(given[:9])) == 27


async def test_mail_wakes_who_waits_at_another_process(processes: Processes) -> None:
    one, other = await processes.start(), await processes.start()
    bob, carol = DeviceKey(os.urandom(32)), DeviceKey(os.urandom(32))
    with (
        one.arrivals.watch(MailboxName(bob)) as here,
        other.arrivals.watch(MailboxName(bob)) as there,
        other.arrivals.watch(MailboxName(carol)) as not_mine,
    ):
        await send(one, bob)
        assert here.is_set()
        await within(there.wait())
        assert not not_mine.is_set()
        there.clear()
        # Many at once: a notice holds few hundred, and the rest come in further ones.
        await one.enqueue([parcel(DeviceKey(os.urandom(32)), size=1) for _ in range(1100)]
                          + [parcel(bob)], now=NOW)  # fmt: skip
        await within(there.wait())


async def test_one_process_sweeps_at_a_time(processes: Processes) -> None:
    one, other = await processes.start(), await processes.start()
    bob = DeviceKey(os.urandom(32))
    await one.enqueue([parcel(bob, expires=NOW + 1) for _ in range(20)], now=NOW)
    assert sum(await asyncio.gather(*(s.sweep(now=NOW + 1) for s in (one, other)))) == 21
    assert one.counters["expired"] + other.counters["expired"] == 20


async def test_processes_that_start_together_migrate_once(processes: Processes) -> None:
    stores = await asyncio.gather(*(processes.start() for _ in range(6)))
    bob = DeviceKey(os.urandom(32))
    assert sorted([(await send(store, bob))[0] for store in stores]) == [1, 2, 3, 4, 5, 6]


# The server goes, and comes back


async def test_the_server_goes_and_comes_back(
    postgres: PostgresServer, processes: Processes
) -> None:
    store, bob = await processes.start(), DeviceKey(os.urandom(32))
    await send(store, bob)
    with store.arrivals.watch(MailboxName(bob)) as woken:
        postgres.stop("immediate")
        try:
            for work in (send(store, bob), numbers_in(store, bob), store.probe(now=NOW)):
                with pytest.raises(Fault) as raised:
                    await within(work)
                assert raised.value.code == "store-unavailable"
            assert store.trouble is not None
        finally:
            postgres.start()
        # It listens again, tries a write, and wakes all: what came meanwhile was not announced.
        await within(woken.wait())
    assert await send(store, bob) == [2]
    assert store.trouble is None
    assert await numbers_in(store, bob) == [1, 2]


async def test_a_server_that_falls_under_load_has_lost_nothing_acknowledged(
    postgres: PostgresServer, processes: Processes
) -> None:
    roomy = Quotas(mailbox_parcels=1_000_000)
    store, bob = await processes.start(roomy), DeviceKey(os.urandom(32))
    acknowledged: dict[ParcelId, int] = {}
    falling, sending = asyncio.Event(), True

    async def work() -> None:
        while sending:
            item = parcel(bob)
            while True:  # as nodes do: the same parcel until it is kept
                try:
                    [outcome] = await store.enqueue([item], now=NOW)
                    break
                except Fault:
                    await asyncio.sleep(0.02)
            assert isinstance(outcome, Enqueued)
            acknowledged[item.id] = outcome.sequence
            if len(acknowledged) > 100:
                falling.set()

    tasks = [asyncio.create_task(work()) for _ in range(16)]
    for _ in range(2):
        falling.clear()
        await within(falling.wait())
        await asyncio.to_thread(postgres.stop, "immediate")
        await asyncio.to_thread(postgres.start)
    sending = False
    await within(asyncio.gather(*tasks))
    mailbox = await store.peek(MailboxName(bob), after=0, limit=10**6, max_bytes=2**30, now=NOW)
    assert {each.id: each.sequence for each in mailbox.parcels} == acknowledged
    assert len(set(acknowledged.values())) == len(acknowledged) > 100


async def test_connections_that_are_killed_are_made_anew(
    postgres: PostgresServer, processes: Processes
) -> None:
    store, bob = await processes.start(), DeviceKey(os.urandom(32))
    database = processes.url.rpartition("/")[2].partition("?")[0]
    kill = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = $1"
    sent = 0
    for _ in range(5):
        await send(store, bob)
        sent += 1
        assert await postgres.execute(kill, database) > 0
        with suppress(Fault):  # one that has not noticed yet
            await send(store, bob)
            sent += 1
        assert len(await numbers_in(store, bob)) >= sent


async def test_a_commit_whose_answer_was_lost_is_done_once(
    processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, item = await processes.start(), parcel(DeviceKey(os.urandom(32)))
    commit = mailboxes.Mail._enqueue_once

    async def losing(*arguments: object) -> object:
        await commit(*arguments)  # type: ignore[arg-type]
        raise asyncpg.ConnectionDoesNotExistError("the connection was closed meanwhile")

    with monkeypatch.context() as patched:
        patched.setattr(mailboxes.Mail, "_enqueue_once", losing)
        with pytest.raises(Fault) as raised:
            await store.enqueue([item], now=NOW)
        assert raised.value.code == "store-unavailable"
    assert await store.enqueue([item], now=NOW) == [Enqueued(1, item.expires)]
    assert await numbers_in(store, item.recipient) == [1]


async def test_who_waits_too_long_for_a_lock_is_told(
    processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(connecting._SESSION, "lock_timeout", "100ms")
    store, bob = await processes.start(), DeviceKey(os.urandom(32))
    await send(store, bob)
    holder = await asyncpg.connect(processes.url)
    async with holder.transaction():
        await holder.execute("SELECT FROM mailboxes FOR UPDATE")
        with pytest.raises(Fault) as raised:
            await within(send(store, bob))
        assert raised.value.code == "store-unavailable"
    await holder.close()
    assert await send(store, bob) == [2]


async def test_a_full_disk_is_told_and_got_over(processes: Processes) -> None:
    """The server's own error, for any reason that it has."""
    store, bob = await processes.start(), DeviceKey(os.urandom(32))
    await send(store, bob)
    other = await asyncpg.connect(processes.url)
    await other.execute(
        "CREATE FUNCTION no_space() RETURNS trigger LANGUAGE plpgsql AS $$"
        " BEGIN RAISE EXCEPTION 'No space left on device' USING ERRCODE = '53100'; END $$;"
        "CREATE TRIGGER no_space BEFORE INSERT ON parcels FOR EACH ROW EXECUTE FUNCTION no_space()"
    )
    with pytest.raises(Fault) as raised:
        await send(store, bob)
    assert raised.value.code == "disk-full"
    assert store.trouble is not None
    assert await numbers_in(store, bob) == [1], "reading goes on"
    await other.execute("DROP TRIGGER no_space ON parcels")
    await other.close()
    assert await send(store, bob) == [2]
    assert store.trouble is None


async def test_a_bug_in_one_job_fails_that_one_alone(processes: Processes) -> None:
    store, bob = await processes.start(), DeviceKey(os.urandom(32))
    bad, good = parcel(bob, expires=2**64), parcel(bob)
    outcomes = await asyncio.gather(
        store.enqueue([bad], now=NOW), store.enqueue([good], now=NOW), return_exceptions=True
    )
    assert isinstance(outcomes[0], asyncpg.DataError)
    assert outcomes[1] == [Enqueued(1, good.expires)]


async def test_a_server_that_is_behind_refuses_instead_of_filling_memory(
    processes: Processes,
) -> None:
    store, bob = await processes.start(), DeviceKey(os.urandom(32))
    await send(store, bob)
    holder = await asyncpg.connect(processes.url)
    lock = holder.transaction()
    await lock.start()
    await holder.execute("SELECT FROM mailboxes FOR UPDATE")
    size = 512 * 1024
    calls = [
        asyncio.ensure_future(store.enqueue([parcel(bob, size=size)], now=NOW))
        for _ in range(QUEUED_BYTES // size + 2)
    ]
    await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
    [refused] = {type(call.exception()) for call in calls if call.done()}
    assert refused is TryLater
    waiting = [call for call in calls if not call.done()]
    assert len(waiting) * size <= QUEUED_BYTES
    await lock.rollback()
    await holder.close()
    outcomes = await within(asyncio.gather(*waiting))
    assert all(isinstance(outcome, Enqueued) for [outcome] in outcomes)


# Set up wrongly


async def test_a_server_that_does_not_sync_is_refused(
    postgres: PostgresServer, database_url: str
) -> None:
    for setting in ("fsync = off", "fsync = on"):
        await postgres.execute(f"ALTER SYSTEM SET {setting}")
        await postgres.execute("SELECT pg_reload_conf()")
        if setting == "fsync = off":
            with pytest.raises(Fault) as raised:
                await _until_seen(postgres, database_url)
            assert raised.value.code == "not-durable"
            assert "fsync" in raised.value.hint + raised.value.message
    store = await _until_seen(postgres, database_url, wanted="on")
    await store.close()


async def _until_seen(postgres: PostgresServer, url: str, wanted: str = "off") -> PostgresStore:
    """Reloading is not at once."""
    async with asyncio.timeout(20):
        while await postgres.execute("SHOW fsync") != wanted:
            await asyncio.sleep(0.01)
    return await PostgresStore.open(url)


async def test_a_database_set_to_commit_without_sync_is_synced_all_the_same(
    postgres: PostgresServer, processes: Processes
) -> None:
    name = processes.url.rpartition("/")[2].partition("?")[0]
    await postgres.execute(f"ALTER DATABASE {name} SET synchronous_commit = off")
    store = await processes.start()
    for pool in (store.database._pool, store.database._mail_pool):
        async with pool.acquire() as connection:
            assert await connection.fetchval("SHOW synchronous_commit") == "on"


async def test_a_newer_schema_is_left_alone(processes: Processes) -> None:
    await processes.start()
    other = await asyncpg.connect(processes.url)
    await other.execute("INSERT INTO schema_version VALUES (99)")
    await other.close()
    with pytest.raises(Fault) as raised:
        await processes.start()
    assert raised.value.code == "database-newer"
    assert "upgrade" in raised.value.hint


async def test_what_is_wrong_with_the_url_is_told_without_its_password(
    postgres: PostgresServer, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    await postgres.execute(f"CREATE ROLE {LOCKED} LOGIN PASSWORD '{PASSWORD}'")
    database = database_url.rpartition("/")[2].partition("?")[0]
    nowhere = "postgresql://u:s3cret@/d?host=/nonexistent"
    for url, code in (
        (postgres.url(database, user=LOCKED, password="s3cret"), "wrong-database-password"),
        (postgres.url("s3cret-db"), "no-such-database"),
        (postgres.url(database, user=LOCKED, password=PASSWORD), "database-not-ours"),
        (nowhere, "store-unavailable"),
        ("postgresql://u:s3cret@/d?sslmode=s3cret", "bad-database-url"),
    ):
        with pytest.raises(Fault) as raised:
            await within(PostgresStore.open(url))
        told = f"{raised.value!r} {raised.value} {raised.value.hint} {caplog.text}"
        assert raised.value.code == code, told
        assert raised.value.hint
        assert "s3cret" not in told
        assert PASSWORD not in told


# Data


async def test_damaged_parcels_do_not_hide_those_behind_them(processes: Processes) -> None:
    store, bob = await processes.start(), DeviceKey(os.urandom(32))
    await send(store, *[bob] * 6)
    other = await asyncpg.connect(processes.url)
    await other.execute("UPDATE parcels SET sealed = 'x' WHERE seq <= 4")
    mailbox = await store.peek(MailboxName(bob), after=0, limit=2, max_bytes=10**6, now=NOW)
    assert [each.sequence for each in mailbox.parcels] == [5, 6]
    assert store.counters["damaged"] == 4
    assert await other.fetchval("SELECT count(*) FROM damaged") == 4
    await other.close()
    assert (await store.mailbox_state(MailboxName(bob))).parcels == 2


async def test_restored_data_give_no_number_and_no_key_package_again(
    postgres: PostgresServer, processes: Processes
) -> None:
    store, bob = await processes.start(), DeviceKey(os.urandom(32))
    await send(store, bob)
    for package, last in ((b"one", False), (b"last", True)):
        await store.put_key_package(bob, SUITE, package, last_resort=last, now=NOW)
    await processes.stop()
    name = processes.url.rpartition("/")[2].partition("?")[0]
    copy = f"{name}_copy"
    await postgres.execute(f"CREATE DATABASE {copy} TEMPLATE {name}")
    try:
        for expected in (1 + SEQUENCE_JUMP, 2 + SEQUENCE_JUMP):  # and no further jump
            store = await PostgresStore.open(postgres.url(copy))
            [number] = await send(store, bob)
            assert number == expected + 1
            answer = await store.take_key_package(bob, SUITE, os.urandom(16), now=NOW)
            assert answer is not None
            assert answer.last_resort
            [other] = await send(store, DeviceKey(os.urandom(32)))
            assert other == 1 + SEQUENCE_JUMP
            await store.close()
    finally:
        await postgres.execute(f"DROP DATABASE {copy} WITH (FORCE)")
