"""What other transactions, and answers that are lost, do to mail in PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest

from relay.store.contract import MailboxName
from relay.store.delivery_tokens import token_hash
from relay.store.postgres.failures import unavailable
from relay.store.postgres.mailboxes import sweep
from relay.store.postgres.store import PostgresStore
from schemas.errors import Fault
from schemas.ids import DeviceKey
from schemas.node_service import Enqueued
from tests.relay.support import NOW, parcel, within

WAITS = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[PostgresStore]:
    store = await PostgresStore.open(database_url)
    yield store
    await store.close()


@asynccontextmanager
async def sweeping(url: str) -> AsyncIterator[Callable[[Awaitable[Any]], Awaitable[Any]]]:
    """The sweep of another process, not committed yet: what runs beside it waits for that."""
    connection = await asyncpg.connect(url)
    watcher = await asyncpg.connect(url)
    transaction = connection.transaction()
    await transaction.start()
    assert (await sweep(connection, NOW)).others == 1

    async def beside(work: Awaitable[Any]) -> Any:
        task = asyncio.ensure_future(work)
        while not await watcher.fetchval(WAITS):
            assert not task.done(), "it was to wait"
            await asyncio.sleep(0.01)
        await transaction.commit()
        return await task

    try:
        yield beside
    finally:
        await connection.close()
        await watcher.close()


async def leave_unused(store: PostgresStore, bob: DeviceKey) -> int:
    """A mailbox that nobody has opened, and that is empty."""
    [kept] = await store.enqueue([parcel(bob)], now=NOW)
    assert isinstance(kept, Enqueued)
    await store.acknowledge(MailboxName(bob), [kept.sequence])
    return kept.sequence


async def test_a_mailbox_that_is_being_swept_away_is_made_anew(
    store: PostgresStore, database_url: str, bob: DeviceKey
) -> None:
    before = await leave_unused(store, bob)
    async with sweeping(database_url) as beside:
        [kept] = await within(beside(store.enqueue([parcel(bob)], now=NOW)))
    assert isinstance(kept, Enqueued), kept
    assert kept.sequence > before
    await store.probe(now=NOW)
    assert store.usage.mailboxes == store.usage.strangers == 1


async def test_who_guards_a_mailbox_that_is_being_swept_away_finds_it_guarded(
    store: PostgresStore, database_url: str, bob: DeviceKey
) -> None:
    await leave_unused(store, bob)
    hashes = [token_hash(bytes(32))]
    async with sweeping(database_url) as beside:
        await within(beside(store.delivery_tokens.set(bob, hashes, optional=False, now=NOW)))
    [refused] = await store.enqueue([parcel(bob)], now=NOW)
    assert getattr(refused, "code", "") == "delivery-token-refused"
    await store.probe(now=NOW)
    assert store.usage.mailboxes == store.usage.strangers == 1


async def test_a_commit_whose_answer_is_lost_wakes_who_waits_here(
    store: PostgresStore, bob: DeviceKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = MailboxName(bob)
    real = store.database.mail

    async def lose(work: Callable[..., Awaitable[Any]], *arguments: object, jobs: int) -> Any:
        await real(work, *arguments, jobs=jobs)
        raise unavailable("the connection was lost")

    with store.arrivals.watch(name) as event:
        monkeypatch.setattr(store.database, "mail", lose)
        with pytest.raises(Fault):
            await store.enqueue([parcel(bob)], now=NOW)
        await within(event.wait(), 2)
    mailbox = await store.peek(name, after=0, limit=9, max_bytes=1000, now=NOW)
    assert len(mailbox.parcels) == 1


async def test_a_commit_that_ends_after_its_answer_was_lost_wakes_who_waits_here(
    store: PostgresStore, bob: DeviceKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = MailboxName(bob)
    real = store.database.mail
    late: list[asyncio.Task[Any]] = []

    async def go_on(work: Callable[..., Awaitable[Any]], *arguments: object, jobs: int) -> Any:
        await asyncio.sleep(0.2)
        return await real(work, *arguments, jobs=jobs)

    async def lose(work: Callable[..., Awaitable[Any]], *arguments: object, jobs: int) -> Any:
        late.append(asyncio.create_task(go_on(work, *arguments, jobs=jobs)))
        raise unavailable("the connection was lost")

    with store.arrivals.watch(name) as event:
        monkeypatch.setattr(store.database, "mail", lose)
        with pytest.raises(Fault):
            await store.enqueue([parcel(bob)], now=NOW)
        event.clear()  # woken at once, it has found nothing
        await within(event.wait(), 5)
    await asyncio.gather(*late)
