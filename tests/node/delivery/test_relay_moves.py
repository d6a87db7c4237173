"""Moving from relay to relay while everything runs: whoever writes finds the new place, what lies
at the old one is read, and no relay can hold anybody back."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from identity.keys import device_from_seed, new_seed
from node.engine import commands as c
from node.engine import delivery_commands as d
from node.engine import relay_commands as r
from node.engine import values as v
from node.engine.relays import READ_AT_LEAST_S
from node.node import Node, NodeConfig
from relay.server import Relay, open_relay
from relay.store.contract import MailboxName, Quotas
from schemas.addresses import Address, RelayAddress
from schemas.ids import DeviceKey, IdentityKey
from schemas.path_policy import PathPolicy
from schemas.records import Signed
from tests.node.delivery.real import DONE, FAST, Person, card, joined, ledger, once_stocked, texts
from tests.node.delivery.support import (
    LOOPBACK,
    QUICK_TRANSPORT,
    FakeEngine,
    FakeNodes,
    Relays,
    eventually,
    relay_config,
)

LIMITS = dataclasses.replace(
    FAST, check_push_s=0.2, statement_every_s=0.0, statement_failed_s=0.0, relay_dial_s=0.5
)


class Clock:
    ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


@asynccontextmanager
async def running(
    person: Person, *relays: Relay, clock: Clock | None = None
) -> AsyncIterator[Node]:
    """A node that nobody reaches but by relay."""
    config = NodeConfig(
        person.folder,
        listen=LOOPBACK,
        relays=tuple(str(relay.address) for relay in relays) or None,
        mdns=False,
        limits=LIMITS,
        transport_limits=QUICK_TRANSPORT,
        clock=clock or Clock(),
    )
    async with Node.running(config) as node:
        await node.ask(c.SetPathPolicy(None, PathPolicy.RELAY_ONLY))
        yield node


async def parcels_at(relay: Relay, device: DeviceKey) -> int:
    return (await relay.store.mailbox_state(MailboxName(device))).parcels


async def talking(ada: Node, bob: Node) -> v.GroupView:
    await ada.add_contact(await card(bob))
    await bob.add_contact(await card(ada))
    group = await once_stocked(ada, bob)
    await joined(bob, group.group)
    await ledger(ada, await ada.ask(c.Send(group.group, "hello")), DONE)
    await texts(bob, 1)
    return group


async def relays_of(reader: Node, device: DeviceKey) -> tuple[str, ...]:
    return (await reader.ask(d.LookUpPeer(device))).relays


async def knows(reader: Node, device: DeviceKey, relay: Relay) -> None:
    async with asyncio.timeout(15):
        while await relays_of(reader, device) != (str(relay.address),):
            await asyncio.sleep(0.02)


async def test_a_sender_that_was_away_finds_the_statement_at_the_old_relay(
    relays: Relays, tmp_path: Path
) -> None:
    """Its own relay is gone, and with it the bundle that was sent there."""
    old, new = await relays("old"), await relays("new")
    ada, bob = Person(tmp_path, "ada"), Person(tmp_path, "bob")
    async with running(bob, old) as b:
        async with (
            open_relay(relay_config(tmp_path / "gone"), limits=QUICK_TRANSPORT) as gone,
            running(ada, gone) as a,
        ):
            group = await talking(a, b)
        await b.ask(r.SetRelays((str(new.address),)))
        await eventually_published(old, b.identity, new)
        async with running(ada) as a:
            assert await relays_of(a, b.device) == (str(old.address),)
            first = await a.ask(c.Send(group.group, "to the old place"))
            await knows(a, b.device, new)
            assert a.counters["relay-statement-kept"] == 1
            second = await a.ask(c.Send(group.group, "to the new one"))
            [held] = await ledger(a, second, ("held",))
            assert held.relay == str(new.address)
            await ledger(a, first, ("held",))
            assert [m.text for m in await texts(b, 3)][1:] == ["to the old place", "to the new one"]


async def eventually_published(relay: Relay, identity: IdentityKey, where: Relay) -> None:
    async with asyncio.timeout(10):
        while True:
            signed = await relay.store.statements.get(identity)
            if signed is not None and bytes(where.device) in signed.payload:
                return
            await asyncio.sleep(0.02)


async def test_moving_while_messages_flow_shows_each_once(relays: Relays, tmp_path: Path) -> None:
    """There and back again, three times, with a new message every few milliseconds."""
    old, new, hers = await relays("old"), await relays("new"), await relays("hers")
    ada, bob = Person(tmp_path, "ada"), Person(tmp_path, "bob")
    async with running(ada, hers) as a, running(bob, old) as b:
        group = await talking(a, b)
        said: list[v.SentView] = []
        done = asyncio.Event()

        async def talk() -> None:
            while not done.is_set():
                said.append(await a.ask(c.Send(group.group, f"number {len(said)}")))
                await asyncio.sleep(0.01)

        talker = asyncio.create_task(talk())
        for place in (new, old, new):
            await asyncio.sleep(0.3)
            await b.ask(r.SetRelays((str(place.address),)))
        await knows(a, b.device, new)
        await asyncio.sleep(0.3)
        done.set()
        await talker
        shown = [m.text for m in await texts(b, len(said) + 1)]
        assert shown == ["hello", *(f"number {n}" for n in range(len(said)))]


async def test_a_dead_old_relay_does_not_hold_up_the_move(relays: Relays, tmp_path: Path) -> None:
    """What it held is handed over again, and is shown once when it comes back with its copy."""
    new, hers = await relays("new"), await relays("hers")
    ada, bob = Person(tmp_path, "ada"), Person(tmp_path, "bob")
    place = "127.0.0.1:0"
    async with running(ada, hers) as a:
        async with open_relay(relay_config(tmp_path / "old"), limits=QUICK_TRANSPORT) as old:
            place, address = str(old.address.address), str(old.address)
            async with running(bob, old) as b:
                group = await talking(a, b)
            lost = [await a.ask(c.Send(group.group, f"number {n}")) for n in range(5)]
            for message in lost:
                await ledger(a, message, ("held",))
        async with running(bob, new) as b:
            everything = ["hello", *(f"number {n}" for n in range(5))]
            assert [m.text for m in await texts(b, 6)] == everything
            [former] = await b.ask(r.ListFormerRelays())
            assert former.relay == address
            config = relay_config(tmp_path / "old", place)
            async with open_relay(config, limits=QUICK_TRANSPORT) as old:
                assert await parcels_at(old, b.device) >= 5
                async with asyncio.timeout(45):
                    while await parcels_at(old, b.device):
                        await asyncio.sleep(0.05)
            shown = [m.text for m in await b.ask(c.ReadMessages("other")) if not m.own]
            assert shown == everything


async def test_the_old_relay_is_let_go_when_it_is_empty_and_all_know(
    relays: Relays, tmp_path: Path
) -> None:
    old, new, hers = await relays("old"), await relays("new"), await relays("hers")
    ada, bob = Person(tmp_path, "ada"), Person(tmp_path, "bob")
    clock = Clock()
    async with running(ada, hers) as a, running(bob, old, clock=clock) as b:
        await talking(a, b)
        await b.ask(r.SetRelays((str(new.address),)))
        views = {view.relay: view for view in await b.relays()}
        assert views[str(new.address)].order == 1
        assert views[str(old.address)].left_at is not None
        # A link, over which ada's device says that it has the bundle on disk.
        for node in (a, b):
            await node.ask(c.SetPathPolicy(None, PathPolicy.AUTO))
        await a.ping(b.identity.hex())
        clock.ahead = READ_AT_LEAST_S + 60
        async with asyncio.timeout(20):
            while await b.ask(r.ListFormerRelays()):
                await asyncio.sleep(0.05)
        await eventually(lambda: len(b._net.own_relays._keepers) == 1)
        assert [view.relay for view in await b.relays()] == [str(new.address)]


async def test_a_relay_that_shows_an_old_statement_gains_nothing(
    relays: Relays, tmp_path: Path
) -> None:
    old, new, hers = await relays("old"), await relays("new"), await relays("hers")
    ada, bob = Person(tmp_path, "ada"), Person(tmp_path, "bob")
    async with running(ada, hers) as a, running(bob, old) as b:
        group = await talking(a, b)
        stale = await b.ask(r.OwnRelayStatement())
        await b.ask(r.SetRelays((str(new.address),)))
        await knows(a, b.device, new)

        async def lies(identity: IdentityKey) -> Signed | None:
            return stale

        forged = device_from_seed(new_seed())

        async def forges(identity: IdentityKey) -> Signed | None:
            return dataclasses.replace(stale, signature=forged.sign(stale.payload))

        new.store.statements.get = lies  # type: ignore[method-assign]
        await a.ask(c.Send(group.group, "one"))
        await eventually(lambda: a.counters["relay-statement-stale"] > 0)
        new.store.statements.get = forges  # type: ignore[method-assign]
        await a.ask(c.Send(group.group, "two"))
        # The relay itself reads what it shows: it answers with the fault of what it holds.
        await eventually(lambda: a.counters["relay-statement-bad-signature"] > 0)
        assert [m.text for m in await texts(b, 3)] == ["hello", "one", "two"]
        assert await relays_of(a, b.device) == (str(new.address),)


async def test_the_next_relay_takes_what_the_first_cannot(nodes: FakeNodes, relays: Relays) -> None:
    """Down, full, or not for this one: in the recipient's order, each parcel at one relay."""
    dead = RelayAddress(Address("127.0.0.1", 9), DeviceKey(b"\x09" * 32))
    full = await relays("full", quotas=Quotas(mailbox_parcels=2))
    last = await relays("last")
    reader = FakeEngine()
    a = await nodes(relay_dial_s=0.3)
    a.knows(reader, relays=[str(dead), str(full.address), str(last.address)])
    outcomes = await a.outcomes(a.post(reader, 6))
    where = [outcome.held[0] for outcome in outcomes if outcome.held is not None]
    assert where.count(str(full.address)) == 2
    assert where.count(str(last.address)) == 4
    assert await parcels_at(full, reader.key) == 2
    assert await parcels_at(last, reader.key) == 4
