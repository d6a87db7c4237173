"""What the relay does by itself goes on, whatever happens to it: said, counted, and begun anew."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from relay import processes, server
from relay.health import DEGRADED, OK
from relay.metrics import RelayMetrics
from relay.processes import HEARTBEAT, Membership
from relay.server import HOUSEKEEPING, REVOCATIONS, Relay, open_relay
from relay.store.contract import MailboxName, RelayStore
from relay.store.postgres.store import PostgresStore
from relay.store.postgres.wakeups import WORK as WAKEUPS
from relay.upkeep import Upkeep
from schemas.addresses import Address
from schemas.errors import Blame, Fault
from tests.relay.people import person, register
from tests.relay.postgres import PostgresServer
from tests.relay.support import NOW, Clock, client_of, new_device, parcel, within
from tests.relay.test_accounts import shared
from transport import supervise

KILL = (
    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
    " WHERE datname = $1 AND query LIKE 'LISTEN%'"
)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A minute is 50 ms here, and so is the first pause."""
    monkeypatch.setattr(server, "SWEEP_EVERY_S", 0.05)
    monkeypatch.setattr(server, "PROBE_EVERY_S", 0.05)
    monkeypatch.setattr(supervise, "AGAIN_FIRST_S", 0.05)


class Broken:
    """In place of a coroutine: fails as SQL does whose table is away, which is no Fault."""

    def __init__(self) -> None:
        self.tried = 0

    async def __call__(self, *_: Any, **__: Any) -> Any:
        self.tried += 1
        raise asyncpg.UndefinedTableError('relation "parcels" does not exist')


async def failing(upkeep: Upkeep, name: str, times: int = 1) -> None:
    async with asyncio.timeout(20):
        while upkeep.failures[name] < times or name not in upkeep.failing:
            await asyncio.sleep(0.005)


async def mended(upkeep: Upkeep, name: str) -> None:
    async with asyncio.timeout(20):
        while name in upkeep.failing:
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("step", ["probe", "sweep", "trim"])
async def test_housekeeping_goes_on_after_what_nobody_foresaw(
    relay: Relay, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, step: str
) -> None:
    store, health = relay.store, relay.service.health
    metrics = RelayMetrics()
    metrics.watch(relay.service, store, dict)
    assert health.report().status == OK
    with monkeypatch.context() as patch:
        broken = Broken()
        patch.setattr(store.audit if step == "trim" else store, step, broken)
        await failing(store.upkeep, HOUSEKEEPING, times=2)
        assert broken.tried >= 2
        told = health.report()
        assert (told.status, told.reason) == (DEGRADED, "housekeeping-fails")
    assert "housekeeping failed, and begins anew" in caplog.text
    assert "UndefinedTableError" in caplog.text
    assert 'upkeep_failures_total{work="housekeeping"}' in metrics.text().decode()
    await mended(store.upkeep, HOUSEKEEPING)
    assert health.report().status == OK


async def test_who_was_revoked_is_hung_up_on_while_the_rest_fails(
    relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    ann = person("ann")
    async with client_of(relay) as client:
        assert await register(client, ann) == ""
        await client.peek()
        for step in ("probe", "sweep"):
            monkeypatch.setattr(relay.store, step, Broken())
        await failing(relay.store.upkeep, HOUSEKEEPING)
        await relay.store.accounts.revoke_device(ann.identity.public, client.device.public, now=NOW)
        await within(client.connection.wait_closed())


async def test_revocations_are_followed_again_after_what_nobody_foresaw(
    relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    ann = person("ann")
    async with client_of(relay) as client:
        assert await register(client, ann) == ""
        await client.peek()
        with monkeypatch.context() as patch:
            patch.setattr(relay.store.accounts, "registered", Broken())
            await failing(relay.store.upkeep, REVOCATIONS)
            assert relay.service.health.report().reason == "revocations-fails"
        await relay.store.accounts.revoke_device(ann.identity.public, client.device.public, now=NOW)
        await within(client.connection.wait_closed())
        await mended(relay.store.upkeep, REVOCATIONS)


async def test_a_process_revokes_what_another_one_serves_though_its_sweep_fails(
    kj: None, clock: Clock, tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ann = person("ann")
    async with (
        open_relay(shared(tmp_path / "one", database_url), clock=clock) as one,
        open_relay(shared(tmp_path / "two", database_url), clock=clock) as two,
        client_of(two) as client,
    ):
        assert await register(client, ann) == ""
        await client.peek()
        monkeypatch.setattr(two.store, "sweep", Broken())
        await failing(two.store.upkeep, HOUSEKEEPING)
        await one.store.accounts.revoke_device(ann.identity.public, client.device.public, now=NOW)
        await within(client.connection.wait_closed())


async def test_wakeups_go_on_after_what_nobody_foresaw(
    postgres: PostgresServer,
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    one, two = await PostgresStore.open(database_url), await PostgresStore.open(database_url)
    bob = new_device().public
    try:
        with monkeypatch.context() as patch:
            broken = Broken()
            patch.setattr(two._wakeups, "_on_back", broken)
            assert await postgres.execute(KILL, database_url.rpartition("/")[2].partition("?")[0])
            await failing(two.upkeep, WAKEUPS, times=2)
            assert broken.tried >= 2
        assert "wakeups failed, and begins anew" in caplog.text
        await mended(two.upkeep, WAKEUPS)
        with two.arrivals.watch(MailboxName(bob)) as woken:
            await one.enqueue([parcel(bob)], now=NOW)
            await within(woken.wait(), 5)
    finally:
        await one.close()
        await two.close()


async def test_a_process_goes_on_saying_that_it_is_here(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("relay.processes.HEARTBEAT_S", 0.05)
    store: RelayStore = await PostgresStore.open(database_url)
    assert store.processes is not None
    try:
        here = Address("127.0.0.1", 7000)
        membership = Membership(store.processes, here, "1", store.upkeep, named=True)
        async with membership.announced():
            with monkeypatch.context() as patch:
                patch.setattr(store.processes, "announce", Broken())
                await failing(store.upkeep, HEARTBEAT)
            await mended(store.upkeep, HEARTBEAT)
    finally:
        await store.close()


def test_what_is_held_up_is_said_once_and_when_it_works_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A database is down for an hour: not 1,200 times the same line."""
    upkeep = Upkeep()
    away = Fault("store-unavailable", "connection refused", blame=Blame.ENVIRONMENT)
    full = Fault("disk-full", "no space left", blame=Blame.ENVIRONMENT)
    told: list[tuple[str, ...]] = []
    for why in (away, away, full, full, TimeoutError(), TimeoutError(), None, None, away):
        caplog.clear()
        if why is None:
            upkeep.got_through("work")
        else:
            upkeep.held_up("work", why, "it waits")
        told.append(tuple(record.getMessage() for record in caplog.records))
    assert told == [
        ("work: it waits: connection refused (store-unavailable)",),
        (),
        ("work: it waits: no space left (disk-full)",),
        (),
        ("work: it waits: no answer",),
        (),
        ("work: it works again",),
        (),
        ("work: it waits: connection refused (store-unavailable)",),
    ]


async def test_a_database_that_is_away_is_said_once_of_each_work(
    kj: None,
    tmp_path: Path,
    postgres: PostgresServer,
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(processes, "HEARTBEAT_S", 0.05)
    works = (HEARTBEAT, HOUSEKEEPING, REVOCATIONS)
    async with open_relay(shared(tmp_path, database_url)):
        await asyncio.to_thread(postgres.stop, "immediate")
        try:
            await asyncio.sleep(1.5)
        finally:
            await asyncio.to_thread(postgres.start)
        async with asyncio.timeout(20):
            while not all(f"{work}: it works again" in caplog.messages for work in works):
                await asyncio.sleep(0.05)
    for work in works:
        told = [each for each in caplog.messages if each.startswith(f"{work}: ")]
        assert len(told) == 2, told
        assert "(store-unavailable)" in told[0]
