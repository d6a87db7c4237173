"""Whole nodes on loopback: what a user was promised, over direct links and through a relay."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import mls_rs
import pytest

from node.engine import commands as c
from node.engine.values import Event
from node.events import EventHub
from node.home import create_home
from node.node import Node, NodeConfig
from relay.server import open_relay
from relay.store.delivery_tokens import Bringer
from relay.store.sqlite.store import SqliteStore
from schemas.errors import Fault, Refused, Unreachable
from schemas.node_service import EnqueueItem
from tests.node.delivery.real import (
    DONE,
    Person,
    befriend,
    card,
    joined,
    ledger,
    once_stocked,
    texts,
)
from tests.node.delivery.support import (
    QUICK_TRANSPORT,
    Relays,
    eventually,
    relay_config,
    within,
)

SUITES = [mls_rs.HYBRID, mls_rs.CLASSIC]


@pytest.fixture
async def people(kj: None, tmp_path: Path) -> dict[str, Person]:
    return {name: Person(tmp_path, name) for name in ("ada", "bob", "cy")}


@pytest.fixture
async def stack(kj: None) -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as opened:
        yield opened


@pytest.mark.parametrize("suite", SUITES, ids=["hybrid", "classic"])
async def test_two_people_talk_directly(
    people: dict[str, Person], stack: AsyncExitStack, suite: int
) -> None:
    ada = await stack.enter_async_context(people["ada"].running())
    bob = await stack.enter_async_context(people["bob"].running())
    await befriend(ada, bob)
    group = (await within(ada.direct_group(bob.identity, suite=suite))).group
    await joined(bob, group)
    sent = await ada.ask(c.Send(group, "hello"))
    [message] = await texts(bob, 1)
    assert (message.text, message.sender_name, message.path) == ("hello", "ada", "direct")
    [row] = await ledger(ada, sent, DONE)
    assert row.path == "direct"
    answer = await bob.ask(c.Send(group, "hi"))
    assert (await texts(ada, 1))[0].text == "hi"
    await ledger(bob, answer, DONE)
    assert await within(ada.drained(5))
    [link] = await ada.peers()
    assert link.identity == bob.identity
    assert link.name == "bob"
    assert link.path == "direct"
    assert link.rtt_ms is not None
    assert (await once_stocked(ada, bob)).group == group


async def test_a_message_to_somebody_away_goes_through_the_relay(
    people: dict[str, Person], stack: AsyncExitStack, relays: Relays
) -> None:
    """The whole promise in one: held at the relay, shown when they are back, receipt returned."""
    relay = await relays()
    address = str(relay.address)
    ada = await stack.enter_async_context(people["ada"].running(address))
    async with people["bob"].running(address) as bob:
        await befriend(ada, bob)
        group = (await once_stocked(ada, bob)).group
        await joined(bob, group)
        bob_key = bob.identity
        await ledger(ada, await ada.ask(c.Send(group, "before")), DONE)
    sent = [await ada.ask(c.Send(group, f"while away {n}")) for n in range(10)]
    [row] = await ledger(ada, sent[-1], ["held"])
    assert row.path == "relay"
    assert row.relay == address
    assert row.identity == bob_key
    bob = await stack.enter_async_context(people["bob"].running())
    received = await texts(bob, 11)
    assert [m.text for m in received] == ["before", *(f"while away {n}" for n in range(10))]
    assert received[-1].path == "relay"
    for message in sent:
        [row] = await ledger(ada, message, DONE)
        assert row.path == "relay"


async def test_three_in_a_group_with_one_away(
    people: dict[str, Person], stack: AsyncExitStack, relays: Relays
) -> None:
    """cy is invited through the relay while away, by ada; then bob and cy talk without ada."""
    relay = await relays()
    address = str(relay.address)
    bob = await stack.enter_async_context(people["bob"].running(address))
    async with people["ada"].running(address) as ada:
        async with people["cy"].running(address) as cy:
            await befriend(ada, bob)
            await befriend(ada, cy)
            await within(cy.register())
            cy_key, cy_card = cy.identity, await card(cy)
        group = (await ada.ask(c.CreateGroup("tea", mls_rs.HYBRID))).group
        view = await within(ada.invite(group, [bob.identity, cy_key]))
        assert len(view.members) == 3
        await joined(bob, group)
        await ledger(ada, await ada.ask(c.Send(group, "welcome")), ["held", *DONE])
        assert await within(ada.drained(5))
    cy = await stack.enter_async_context(people["cy"].running())
    await joined(cy, group)
    assert [m.text for m in await texts(cy, 1)] == ["welcome"]
    await ledger(bob, await bob.ask(c.Send(group, "from bob")), [*DONE, "held", "queued"])
    assert "from bob" in {m.text for m in await texts(cy, 2)}
    assert cy_card


async def test_a_relay_that_damages_parcels_causes_no_loss(
    people: dict[str, Person],
    stack: AsyncExitStack,
    relays: Relays,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A flipped byte is refused by the reader; the good copy still arrives, over a direct link."""
    relay = await relays()
    address = str(relay.address)
    ada = await stack.enter_async_context(people["ada"].running(address))
    async with people["bob"].running(address) as bob:
        await befriend(ada, bob)
        group = (await once_stocked(ada, bob)).group
        await joined(bob, group)
        await ledger(ada, await ada.ask(c.Send(group, "before")), DONE)
    original = SqliteStore.enqueue

    async def damage(
        self: SqliteStore, batch: Sequence[EnqueueItem], *, now: int, by: Bringer
    ) -> Any:
        flipped = [
            dataclasses.replace(i, sealed=i.sealed[:-1] + bytes([i.sealed[-1] ^ 1])) for i in batch
        ]
        return await original(self, flipped, now=now, by=by)

    monkeypatch.setattr(SqliteStore, "enqueue", damage)
    sent = await ada.ask(c.Send(group, "through a bad relay"))
    await ledger(ada, sent, ["held"])
    bob = await stack.enter_async_context(people["bob"].running())
    received = await texts(bob, 2, seconds=30)
    assert [m.text for m in received] == ["before", "through a bad relay"]
    [row] = await ledger(ada, sent, DONE, seconds=30)


async def test_a_relay_that_restarts_loses_nothing(
    people: dict[str, Person], stack: AsyncExitStack, tmp_path: Path
) -> None:
    """What it held is there again; what could not be left meanwhile follows by itself."""
    folder = tmp_path / "relay"
    async with AsyncExitStack() as first:
        relay = await first.enter_async_context(
            open_relay(relay_config(folder), limits=QUICK_TRANSPORT)
        )
        address, listen = str(relay.address), str(relay.listen)
        ada = await stack.enter_async_context(people["ada"].running(address))
        async with people["bob"].running(address) as bob:
            await befriend(ada, bob)
            group = (await once_stocked(ada, bob)).group
            await joined(bob, group)
            await ledger(ada, await ada.ask(c.Send(group, "one")), DONE)
        two = await ada.ask(c.Send(group, "two"))
        await ledger(ada, two, ["held"])
    three = await ada.ask(c.Send(group, "three"))
    [why] = await ada.ask(c.Why(three.message.hex()))
    assert why.sentence
    assert not await within(ada.drained(0.5)), "there is nowhere to go"
    await stack.enter_async_context(
        open_relay(relay_config(folder, listen), limits=QUICK_TRANSPORT)
    )
    await ledger(ada, three, ["held"], seconds=30)
    bob = await stack.enter_async_context(people["bob"].running())
    assert [m.text for m in await texts(bob, 3)] == ["one", "two", "three"]
    for message in (two, three):
        await ledger(ada, message, DONE)


async def test_a_home_has_one_node(people: dict[str, Person], stack: AsyncExitStack) -> None:
    await stack.enter_async_context(people["ada"].running())
    with pytest.raises(Fault) as fault:
        async with people["ada"].running():
            pass
    assert fault.value.code == "already-running"


async def test_what_stops_a_node_from_starting_has_a_name(
    people: dict[str, Person], stack: AsyncExitStack, tmp_path: Path
) -> None:
    ada = await stack.enter_async_context(people["ada"].running())
    with pytest.raises(Fault) as busy:
        async with people["bob"].running(listen=ada.listen):
            pass
    assert busy.value.code == "port-busy"
    async with people["bob"].running(listen=None) as bob:
        assert bob.listen.port, "after a failure the home is free again"
    with pytest.raises(Fault) as nobody:
        async with Node.running(NodeConfig(tmp_path / "nobody", mdns=False)):
            pass
    assert nobody.value.code == "no-account"
    with pytest.raises(Refused):
        create_home(people["ada"].folder.parent / "bad", "")
    with pytest.raises(Refused) as again:
        create_home(people["bob"].folder, "bob")
    assert again.value.code == "home-exists"


async def test_inviting_names_who_cannot_be_had(
    people: dict[str, Person], stack: AsyncExitStack
) -> None:
    ada = await stack.enter_async_context(people["ada"].running())
    group = (await ada.ask(c.CreateGroup("tea", mls_rs.HYBRID))).group
    async with people["bob"].running() as bob:
        await ada.add_contact(await card(bob))
        key = bob.identity
    with pytest.raises(Unreachable) as away:
        await within(ada.invite(group, [key]))
    assert away.value.code == "unreachable"
    assert "bob" in away.value.message
    async with people["cy"].running() as cy:
        unknown = await card(cy)
    contact = await within(ada.add_contact(unknown))
    assert not contact.reachable, "a card is enough for a contact, not for sealing"


async def test_ping_health_and_keys_at_a_relay(
    people: dict[str, Person], stack: AsyncExitStack, relays: Relays
) -> None:
    relay = await relays()
    address = str(relay.address)
    ada = await stack.enter_async_context(people["ada"].running(address))
    bob = await stack.enter_async_context(people["bob"].running(address))
    await ada.add_contact(await card(bob))
    pinged = await within(ada.ping(bob.identity.hex()))
    assert (pinged.device, pinged.path) == (bob.device, "direct")
    assert (await within(ada.ping(bob.device.hex()))).device == bob.device
    assert (await within(ada.ping(address))).path == "relay"
    with pytest.raises(Refused):
        await ada.ping("nobody")
    [health] = await within(ada.health())
    assert (health.relay, health.status) == (address, "ok")
    [other] = await within(bob.health(f"127.0.0.1:9#{relay.device}"))
    assert other.status == "unreachable"
    registered = await within(bob.register())
    assert {(view.suite, view.relay) for view in registered} == {
        ("hybrid", address),
        ("classic", address),
    }
    [holding] = await within(ada.check_key(bob.identity))
    assert holding.device == bob.device
    assert holding.bundle_number is not None
    assert holding.hybrid_key
    assert holding.endpoint
    [fetched] = await within(ada.fetch_key(bob.identity))
    assert not fetched.last_resort
    [fresh] = [v for v in await within(bob.refresh_key_package()) if v.suite == "classic"]
    assert len(fresh.fingerprint) == 64


async def test_a_short_lived_node_is_not_published(
    people: dict[str, Person], stack: AsyncExitStack, relays: Relays
) -> None:
    """A command's node is gone in a second: nobody should dial its port for two days."""
    relay = await relays()
    ada = await stack.enter_async_context(people["ada"].running(str(relay.address), listen=None))
    await within(ada.looked(5))
    client = await within(ada._net.pool.client(relay.address))
    await eventually(lambda: ada._net.pool.connected(relay.address))
    async with asyncio.timeout(5):
        while await client.resolve_identity(ada.identity) is None:
            await asyncio.sleep(0.02)
    assert await client.resolve_endpoint(ada.device) is None
    with pytest.raises(Refused) as none:
        await client.fetch_key_package(ada.device, mls_rs.HYBRID, bytes(16))
    assert none.value.code == "no-key-package"


async def test_nodes_on_one_lan_find_each_other(
    people: dict[str, Person], stack: AsyncExitStack
) -> None:
    """No address was exchanged: mDNS on loopback brings the message."""
    bob = await stack.enter_async_context(
        people["bob"].running(mdns=True, mdns_interfaces=("127.0.0.1",))
    )
    ada = await stack.enter_async_context(
        people["ada"].running(mdns=True, mdns_interfaces=("127.0.0.1",))
    )
    async with asyncio.timeout(10):
        while bob.device not in {peer.device for peer in await ada.peers()}:
            await asyncio.sleep(0.05)
    seen = next(peer for peer in await ada.peers() if peer.device == bob.device)
    assert (seen.name, seen.source, seen.connected) == ("bob", "mdns", False)


async def test_a_slow_subscriber_lags_once_and_goes_on() -> None:
    hub = EventHub(waiting=3)
    with hub.subscribe() as events:
        for n in range(5):
            hub.publish(Event("message", {"n": n}))
        hub.close()
        got = [event async for event in events]
    assert [event.kind for event in got] == ["lagged", "message", "message"]
    assert got[-1].fields == {"n": 4}


async def test_events_reach_subscribers(people: dict[str, Person], stack: AsyncExitStack) -> None:
    ada = await stack.enter_async_context(people["ada"].running())
    bob = await stack.enter_async_context(people["bob"].running())
    await befriend(ada, bob)
    with bob.subscribe() as events:
        await once_stocked(ada, bob)
        async with asyncio.timeout(10):
            async for event in events:
                if event.kind in ("request", "joined"):
                    break
