"""What the relay acknowledged is on disk: after kill -9, beside a failing neighbour, under load."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import apsw
import pytest

from relay.refusals import TryLater
from relay.store.contract import MailboxName
from relay.store.sqlite import writer as writer_module
from relay.store.sqlite.store import SqliteStore
from relay.store.sqlite.writer import Writer
from schemas.errors import Fault, Refused
from schemas.ids import DeviceKey
from storage.sqlite import open_database
from tests.relay.support import NOW, parcel, within


class Gate:
    """A job that holds the writer's thread until it is opened."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.open = threading.Event()

    def __call__(self, _: apsw.Connection) -> None:
        self.entered.set()
        assert self.open.wait(20)


@pytest.fixture
async def writer(tmp_path: Path) -> AsyncIterator[Writer]:
    connection = open_database(tmp_path / "w.db")
    connection.execute("CREATE TABLE t(x UNIQUE)")
    writer = Writer(connection)
    yield writer
    await writer.close()


def values(tmp_path: Path) -> list[int]:
    connection = open_database(tmp_path / "w.db")
    try:
        return [value for (value,) in connection.execute("SELECT x FROM t ORDER BY x")]
    finally:
        connection.close()


def add(writer: Writer, value: int) -> asyncio.Task[object]:
    def work(connection: apsw.Connection) -> int:
        connection.execute("INSERT INTO t VALUES (?)", (value,))
        return value

    return asyncio.create_task(writer.run(work), name=f"add {value}")


async def hold(writer: Writer) -> tuple[Gate, asyncio.Task[None]]:
    """Keep the writer busy with a commit of its own, so that what follows queues."""
    gate = Gate()
    task = asyncio.create_task(writer.run(gate))
    await asyncio.to_thread(gate.entered.wait, 20)
    return gate, task


async def test_what_queues_during_a_commit_is_committed_together(
    writer: Writer, tmp_path: Path
) -> None:
    gate, held = await hold(writer)
    tasks = [add(writer, value) for value in range(100)]
    await asyncio.sleep(0)
    assert values(tmp_path) == []
    assert not any(task.done() for task in tasks)
    gate.open.set()
    assert await within(asyncio.gather(*tasks)) == list(range(100))
    await held
    assert values(tmp_path) == list(range(100))
    assert writer.commits == 2


async def test_nobody_hears_of_a_change_before_its_commit(writer: Writer, tmp_path: Path) -> None:
    """The second job of a batch blocks; the first has run, and must not be acknowledged."""
    first_gate, held = await hold(writer)
    early = add(writer, 1)
    await asyncio.sleep(0)
    second_gate = Gate()
    late = asyncio.create_task(writer.run(second_gate))
    await asyncio.sleep(0)
    first_gate.open.set()
    await asyncio.to_thread(second_gate.entered.wait, 20)
    await asyncio.sleep(0)
    assert not early.done()
    assert values(tmp_path) == []
    second_gate.open.set()
    await within(asyncio.gather(held, early, late))
    assert values(tmp_path) == [1]


async def test_a_bug_in_one_job_undoes_that_job_only(writer: Writer, tmp_path: Path) -> None:
    def broken(connection: apsw.Connection) -> None:
        connection.execute("INSERT INTO t VALUES (1000)")
        raise ZeroDivisionError

    def refusing(connection: apsw.Connection) -> None:
        connection.execute("INSERT INTO t VALUES (2000)")
        raise Refused("no", "no")

    gate, held = await hold(writer)
    before, bad = add(writer, 1), asyncio.create_task(writer.run(broken))
    refused, after = asyncio.create_task(writer.run(refusing)), add(writer, 2)
    await asyncio.sleep(0)
    gate.open.set()
    await within(asyncio.gather(held, before, bad, refused, after, return_exceptions=True))
    assert (before.result(), after.result()) == (1, 2)
    assert isinstance(bad.exception(), ZeroDivisionError)
    assert isinstance(refused.exception(), Refused)
    assert values(tmp_path) == [1, 2, 2000]  # what was written before a refusal stays


async def test_a_caller_who_gave_up_does_not_stop_the_others(
    writer: Writer, tmp_path: Path
) -> None:
    gate, held = await hold(writer)
    gone, stays = add(writer, 1), add(writer, 2)
    await asyncio.sleep(0)
    gone.cancel()
    gate.open.set()
    await within(asyncio.gather(held, stays))
    assert values(tmp_path) == [1, 2]


async def test_a_disk_that_is_behind_refuses_instead_of_filling_memory(
    writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "QUEUED_BYTES", 10_000)
    gate, held = await hold(writer)
    fits = asyncio.create_task(writer.run(lambda _: None, cost=8_000))
    await asyncio.sleep(0)
    with pytest.raises(TryLater) as raised:
        await writer.run(lambda _: None, cost=8_000)
    assert raised.value.code == "busy"
    assert raised.value.retry_after_ms > 0
    gate.open.set()
    await within(asyncio.gather(held, fits))
    await within(writer.run(lambda _: None, cost=8_000))


async def test_a_full_disk_is_told_to_all_and_is_got_over(writer: Writer, tmp_path: Path) -> None:
    def fill(connection: apsw.Connection) -> None:
        connection.execute("PRAGMA max_page_count = 1")
        connection.execute("INSERT INTO t VALUES (zeroblob(1000000))")

    gate, held = await hold(writer)
    innocent, filling = add(writer, 1), asyncio.create_task(writer.run(fill))
    await asyncio.sleep(0)
    gate.open.set()
    await within(asyncio.gather(held, innocent, filling, return_exceptions=True))
    for task in (innocent, filling):
        fault = task.exception()
        assert isinstance(fault, Fault)
        assert fault.code == "disk-full"
    assert values(tmp_path) == []
    await within(writer.run(lambda connection: connection.execute("PRAGMA max_page_count = 10000")))
    await within(add(writer, 3))
    assert values(tmp_path) == [3]


async def test_closing_commits_what_is_queued(writer: Writer, tmp_path: Path) -> None:
    gate, held = await hold(writer)
    tasks = [add(writer, value) for value in range(10)]
    await asyncio.sleep(0)
    closing = asyncio.create_task(writer.close())
    await asyncio.sleep(0)
    gate.open.set()
    await within(asyncio.gather(held, closing, *tasks))
    assert values(tmp_path) == list(range(10))


async def test_concurrent_senders_share_commits(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path / "relay.db")
    bob = DeviceKey(os.urandom(32))
    before = store.commits
    await asyncio.gather(*(store.enqueue([parcel(bob)], now=NOW) for _ in range(500)))
    assert store.commits - before < 100
    await store.close()


async def test_the_live_connections_are_durable(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path / "relay.db")

    def settings(connection: apsw.Connection) -> tuple[object, object]:
        return connection.pragma("journal_mode"), connection.pragma("synchronous")

    assert await store.database.writer.run(settings) == ("wal", 2)
    assert await store.database.read(settings) == ("wal", 2)
    with pytest.raises(apsw.ReadOnlyError):
        store.database._reader.execute("DELETE FROM parcels")
    await store.close()


async def test_a_parcel_that_the_disk_damaged_is_not_passed_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = await SqliteStore.open(tmp_path / "relay.db")
    bob = DeviceKey(os.urandom(32))
    await store.enqueue([parcel(bob), parcel(bob)], now=NOW)
    await store.database.writer.run(
        lambda c: c.execute("UPDATE parcels SET sealed = zeroblob(100) WHERE seq = 1").fetchall()
    )
    mailbox = await store.peek(MailboxName(bob), after=0, limit=1, max_bytes=1000, now=NOW)
    assert [p.sequence for p in mailbox.parcels] == [2]
    assert "damaged" in caplog.text
    await store.close()
