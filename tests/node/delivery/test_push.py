"""Mail is pushed while connected: it comes at once, and idle nodes and relays do nothing."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from node.engine import commands as c
from node.engine import delivery_commands as d
from node.engine.values import Accepted
from relay.server import open_relay
from relay.store.contract import Quotas
from tests.node.delivery.real import DONE, Person, befriend, joined, ledger, once_stocked
from tests.node.delivery.support import (
    QUICK_TRANSPORT,
    FakeEngine,
    FakeNodes,
    Relays,
    eventually,
    relay_config,
    within,
)
from tests.node.delivery.test_relay_path import parcels_at, reader

NEVER = {"poll_s": 60.0, "check_push_s": 60.0}


async def arrived(engine: FakeEngine, count: int) -> None:
    await eventually(lambda: len(engine.arrived) == count)


async def test_mail_comes_without_asking_for_it(nodes: FakeNodes, relays: Relays) -> None:
    relay = await relays()
    away = reader(relay)
    a = await nodes()
    a.knows(away, relays=[str(relay.address)])
    b = await nodes(engine=away, **NEVER)
    keeper = b.delivery.own_relays._keepers[relay.device]
    await eventually(lambda: keeper._subscribed)
    for n in range(1, 4):
        await a.outcomes(a.post(away, 40))
        await within(arrived(away, 40 * n), 2)
    async with asyncio.timeout(5):
        while await parcels_at(relay, away.key):
            await asyncio.sleep(0.01)
    assert len({arrived.parcel.id for arrived in away.arrived}) == 120


async def test_a_pushed_parcel_is_acknowledged_only_after_the_commit(
    nodes: FakeNodes, relays: Relays
) -> None:
    """A push that empties the mailbox before our disk has it would lose mail in a power cut."""
    relay = await relays()
    away = reader(relay)
    a = await nodes()
    a.knows(away, relays=[str(relay.address)])
    b = await nodes(engine=away, **NEVER)
    await eventually(lambda: b.delivery.own_relays._keepers[relay.device]._subscribed)
    held = asyncio.Event()
    loop = asyncio.get_running_loop()

    def hold(arrived: d.Arrived) -> Accepted:
        away.gate.clear()
        loop.call_soon_threadsafe(held.set)
        return Accepted()

    away.verdict = hold
    await a.outcomes(a.post(away, 3))
    await within(held.wait())
    await asyncio.sleep(0.05)
    assert await parcels_at(relay, away.key) == 3
    away.verdict = lambda arrived: Accepted()
    away.gate.set()
    async with asyncio.timeout(5):
        while await parcels_at(relay, away.key):
            await asyncio.sleep(0.01)


async def test_a_new_connection_subscribes_anew(nodes: FakeNodes, relays: Relays) -> None:
    folder = relays.folder / "again"
    async with open_relay(relay_config(folder), limits=QUICK_TRANSPORT) as relay:
        away = reader(relay)
        a = await nodes()
        a.knows(away, relays=[str(relay.address)])
        b = await nodes(engine=away, **NEVER)
        keeper = b.delivery.own_relays._keepers[relay.device]
        await eventually(lambda: keeper._subscribed)
        address, listen = relay.address, str(relay.listen)
    await eventually(lambda: not b.delivery.pool.connected(address))
    async with open_relay(relay_config(folder, listen), limits=QUICK_TRANSPORT):
        await eventually(lambda: b.delivery.pool.connected(address) and keeper._subscribed, 20)
        await eventually(lambda: a.delivery.pool.retry_in(address) == 0.0)
        await a.outcomes(a.post(away, 2))
        await eventually(lambda: len(away.arrived) == 2, 2)


@pytest.mark.parametrize("page", [1, 100])
async def test_a_full_mailbox_is_told_to_its_owner(
    kj: None, tmp_path: Path, relays: Relays, page: int
) -> None:
    """Otherwise only the senders learn that mail is refused, and the reader wonders."""
    relay = await relays(quotas=Quotas(mailbox_parcels=3, token_share=1.0))
    ada, bob = Person(tmp_path, "ada"), Person(tmp_path, "bob")
    async with AsyncExitStack() as stack:
        a = await stack.enter_async_context(ada.running())
        async with bob.running(str(relay.address)) as b:
            await befriend(a, b)
            group = (await once_stocked(a, b)).group
            await joined(b, group)
            await ledger(a, await a.ask(c.Send(group, "before")), DONE)
        for n in range(6):
            await a.ask(c.Send(group, f"{n}"))
        await eventually(lambda: a.counters["enqueue-delivery-token-full"])
        b = await stack.enter_async_context(bob.running(poll_s=60.0, poll_page=page))
        async with asyncio.timeout(5):
            with b.subscribe() as events:
                [view] = await b.health()
                if view.refused_since is None:  # its first look is still to come
                    async for event in events:
                        if event.kind == "mailbox-full":
                            break
        [view] = await b.health()
        assert view.refused_since


async def test_a_lone_reader_tells_the_authors_before_it_ends(
    kj: None, tmp_path: Path, relays: Relays
) -> None:
    """`recv` on its own: the receipt must not wait for the next command, days later."""
    relay = await relays()
    ada, bob = Person(tmp_path, "ada"), Person(tmp_path, "bob")
    async with ada.running(str(relay.address)) as a, bob.running(str(relay.address)) as b:
        await befriend(a, b)
        group = (await once_stocked(a, b)).group
        await joined(b, group)
        await ledger(a, await a.ask(c.Send(group, "before")), DONE)
    async with ada.running() as a:
        sent = await a.ask(c.Send(group, "hello"))
        await ledger(a, sent, ["held"])
    async with bob.running(listen=None) as b:  # ada is away: the receipt goes by the relay
        await b.looked(3)
        messages = await b.ask(c.ReadMessages("lone"))
        assert [message.text for message in messages] == ["before", "hello"]
        assert await within(b.drained(3), 4)
        assert await parcels_at(relay, a.device) > 0, "the receipt is at ada's relay"
