"""Nodes in the DHT: what they show to whom, and what a lookup costs."""

from __future__ import annotations

import asyncio
import dataclasses
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from discovery.dht.contact import node_id
from discovery.dht.limits import DEFAULT_DHT_LIMITS as LIMITS
from discovery.dht.publication import cells_to_read, open_private_untrusted
from identity.cell import open_cell_untrusted
from node.delivery.dht import Dht
from node.engine import commands as c
from node.engine import delivery_commands as d
from node.engine import relay_commands as r
from node.engine_thread import EngineThread
from node.node import Node, NodeConfig
from schemas.dht import DhtValue
from schemas.errors import Blame, Fault, Malformed, Unreachable
from schemas.ids import DhtId
from schemas.path_policy import PathPolicy
from schemas.records import Signed
from schemas.visibility import DhtVisibility
from tests.node.delivery.real import FAST, Person, card
from tests.node.delivery.support import LOOPBACK, QUICK_TRANSPORT, Relays, eventually, within

RunNode = Callable[..., Awaitable[Node]]


@pytest.fixture
async def run(kj: None) -> AsyncIterator[RunNode]:
    """`await run(person, *bootstrap, **config)`: their node, with a part in the DHT."""
    async with AsyncExitStack() as stack:

        async def start(person: Person, *bootstrap: Node, **changes: Any) -> Node:
            return await stack.enter_async_context(running(person, *bootstrap, **changes))

        yield start


@asynccontextmanager
async def running(person: Person, *bootstrap: Node, **changes: Any) -> AsyncIterator[Node]:
    config = NodeConfig(
        person.folder,
        listen=LOOPBACK,
        mdns=False,
        dht=True,
        bootstrap=tuple(str(each.listen) for each in bootstrap) or None,
        limits=dataclasses.replace(FAST, dht_publish_pause_s=0.05),
        transport_limits=QUICK_TRANSPORT,
    )
    async with Node.running(dataclasses.replace(config, **changes)) as node:
        yield node


def dht_of(node: Node) -> Dht:
    assert node._net.dht is not None
    return node._net.dht


def published(node: Node) -> bool:
    return dht_of(node).status().published_until is not None


def kept_at(node: Node) -> list[Signed]:
    """All that this node keeps for others."""
    cells = dht_of(node)._service.node._values._cells
    return [kept.value for cell in cells.values() for kept in cell.values()]


async def test_whoever_keeps_our_record_reads_nothing_in_it(run: RunNode, tmp_path: Path) -> None:
    """They know all keys and addresses of everybody, and not the card."""
    cy, ada = Person(tmp_path, "cy"), Person(tmp_path, "ada")
    keeper = await run(cy)
    node = await run(ada, keeper)
    await eventually(lambda: published(node))
    values = kept_at(keeper)
    assert values
    guesses = (bytes(node.identity), bytes(node.device), bytes(32), bytes(keeper.device))
    for value in values:
        assert value.signer not in (node.device, node.identity)
        for secret in (bytes(node.device), bytes(node.identity), node.listen.host.encode()):
            assert secret not in value.encode()
        sealed = DhtValue.decode(value.payload).sealed
        for guess in guesses:
            for cell in cells_to_read(node.device, guess, now=node._config.clock(), limits=LIMITS):
                with pytest.raises(Malformed):
                    open_cell_untrusted(cell, sealed)


async def test_a_holder_of_the_card_opens_it(run: RunNode, tmp_path: Path) -> None:
    """What the test above could not open is what it should be."""
    cy, ada, bob = (Person(tmp_path, name) for name in ("cy", "ada", "bob"))
    keeper = await run(cy)
    node = await run(ada, keeper)
    await eventually(lambda: published(node))
    reader = await run(bob, keeper)
    await reader.ask(c.AddContact(await card(node)))
    cells = {cell.id: cell for cell in await reader.ask(d.CellsOf(node.device))}
    values = {DhtValue.decode(each.payload).cell: each for each in kept_at(keeper)}
    both = cells.keys() & values.keys()
    assert both
    for cell in both:
        now = reader._config.clock()
        open_private_untrusted(cells[cell], node.device, values[cell], now=now)


async def test_a_commands_node_finds_others_and_leaves_nothing_behind(
    run: RunNode, tmp_path: Path
) -> None:
    cy, ada, bob = (Person(tmp_path, name) for name in ("cy", "ada", "bob"))
    keeper = await run(cy)
    node = await run(ada, keeper)
    await eventually(lambda: published(node))
    before = len(kept_at(keeper))
    short_lived = await run(bob, keeper, listen=None)
    await short_lived.ask(c.AddContact(await card(node)))
    (path,) = await within(short_lived.look_up(node.identity.hex(), ""))
    assert path.address == str(node.listen)
    assert len(kept_at(keeper)) == before
    assert short_lived.device not in {
        each.device for each in dht_of(keeper)._service.node.contacts()
    }


async def test_who_hides_their_address_asks_nobody_and_is_asked_by_nobody(
    run: RunNode, tmp_path: Path
) -> None:
    """Strangers of the DHT would see it."""
    cy, ada = Person(tmp_path, "cy"), Person(tmp_path, "ada")
    keeper = await run(cy)
    async with running(ada) as quiet:
        await quiet.ask(c.SetPathPolicy(None, PathPolicy.RELAY_ONLY))
    node = await run(ada, keeper)
    await within(dht_of(node)._service.begun.wait())
    with pytest.raises(Unreachable) as caught:
        await within(node.look_up(keeper.device.hex(), ""))
    assert caught.value.code == "dht-empty"
    assert not keeper._net.endpoint.connections
    await node.ask(c.SetPathPolicy(None, PathPolicy.AUTO))
    await eventually(lambda: published(node))
    await node.ask(c.SetPathPolicy(None, PathPolicy.RELAY_ONLY))
    await eventually(lambda: not dht_of(node).status().server)


async def test_switched_off_or_not_shown(run: RunNode, tmp_path: Path) -> None:
    cy, ada, bob = (Person(tmp_path, name) for name in ("cy", "ada", "bob"))
    keeper = await run(cy)
    hidden = await run(ada, keeper, dht_visibility=DhtVisibility.OFF)
    await eventually(lambda: dht_of(hidden).status().server)
    assert not kept_at(keeper)
    without = await run(bob, keeper, dht=False)
    assert without.dht_status() is None
    with pytest.raises(Fault) as caught:
        await without.look_up(hidden.device.hex(), "")
    assert caught.value.code == "dht-off"


async def test_a_device_is_not_looked_up_again_and_again(run: RunNode, tmp_path: Path) -> None:
    """Each lookup asks some thirty strangers; a message is tried every few seconds."""
    cy, ada, bob = (Person(tmp_path, name) for name in ("cy", "ada", "bob"))
    keeper = await run(cy)
    node, seeker = await run(ada, keeper), await run(bob, keeper)
    await eventually(lambda: published(node) and published(seeker))
    await seeker.ask(c.AddContact(await card(node)))
    answer = dht_of(keeper)._service._front
    assert answer is not None
    asked: list[object] = []
    real = answer._answer

    def counting(asker: Any, request: Any) -> Any:
        asked.append(request)
        return real(asker, request)

    answer._answer = counting
    found = await within(dht_of(seeker).lookups.records(node.device))
    assert found
    once = len(asked)
    for _ in range(20):
        assert await within(dht_of(seeker).lookups.records(node.device)) == found
    assert len(asked) == once > 0


async def test_who_hides_from_somebody_serves_nobody(run: RunNode, tmp_path: Path) -> None:
    """Who serves stands in others' tables: whoever knows its device key finds its address."""
    cy, ada, bob = (Person(tmp_path, name) for name in ("cy", "ada", "bob"))
    keeper = await run(cy)
    async with running(ada) as quiet, running(bob) as other:
        await quiet.ask(c.AddContact(await card(other)))
        await quiet.ask(c.SetPathPolicy(other.identity, PathPolicy.RELAY_ONLY))
        hated = other.identity
    node = await run(ada, keeper)
    await within(dht_of(node)._service.begun.wait())
    asked = await within(dht_of(node).lookups.find(keeper.device))
    assert not asked, "it looks others up"
    await asyncio.sleep(0.3)
    assert not dht_of(node).status().server
    assert node.device not in {each.device for each in dht_of(keeper)._service.node.contacts()}
    await node.ask(c.SetPathPolicy(hated, None))
    await eventually(lambda: dht_of(node).status().server)
    await node.ask(c.SetPathPolicy(hated, PathPolicy.RELAY_ONLY))
    await eventually(lambda: not dht_of(node).status().server)


async def test_whose_card_we_hold_is_looked_for_in_public_only_by_hand(
    run: RunNode, tmp_path: Path
) -> None:
    """Strangers on the way would learn for whom somebody at our address looks."""
    cy, ada, bob, eve = (Person(tmp_path, name) for name in ("cy", "ada", "bob", "eve"))
    keeper = await run(cy)
    seeker = await run(bob, keeper)
    async with running(ada) as away:
        await seeker.ask(c.AddContact(await card(away)))
        friend = away.device
    async with running(eve) as away:
        stranger = away.device
    await eventually(lambda: published(seeker))
    lookups = dht_of(seeker).lookups
    sought: list[DhtId] = []
    real = lookups._node.find

    async def noting(key: DhtId, *rest: Any) -> Any:
        sought.append(key)
        return await real(key, *rest)

    lookups._node.find = noting  # type: ignore[assignment,method-assign]
    assert not await within(lookups.records(friend))
    assert sought
    assert node_id(friend) not in sought
    await within(lookups.find(friend))
    assert node_id(friend) in sought
    await within(lookups.records(stranger))
    assert sought[-1] == node_id(stranger)


async def test_our_relay_is_where_we_begin(run: RunNode, relays: Relays, tmp_path: Path) -> None:
    relay = await relays()
    ada, bob = Person(tmp_path, "ada"), Person(tmp_path, "bob")
    node = await run(ada, relays=(str(relay.address),))
    seeker = await run(bob, relays=(str(relay.address),))
    await eventually(lambda: published(node) and published(seeker))
    await seeker.ask(c.AddContact(await card(node)))
    (path,) = await within(seeker.look_up(node.identity.hex(), ""))
    assert (path.address, path.source) == (str(node.listen), "dht")


async def test_a_relay_named_later_is_where_we_begin(
    run: RunNode, relays: Relays, tmp_path: Path
) -> None:
    relay = await relays()
    node = await run(Person(tmp_path, "ada"))
    await within(dht_of(node)._service.begun.wait())
    await node.ask(r.SetRelays((str(relay.address),)))
    await eventually(lambda: published(node))


async def test_an_engine_that_refuses_for_a_while_does_not_end_the_dht(
    run: RunNode, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A full disk refuses reads, too."""
    keeper = await run(Person(tmp_path, "cy"))
    await eventually(lambda: dht_of(keeper)._publisher._again_s > FAST.dht_publish_first_s)
    refused: Counter[type] = Counter()
    real = EngineThread.ask

    async def full_at_first(self: EngineThread[Any], command: c.Command[Any]) -> Any:
        if type(command) in (d.DhtStart, d.OwnPublications) and not refused[type(command)]:
            refused[type(command)] += 1
            raise Fault("disk-full", "by the test", blame=Blame.ENVIRONMENT)
        return await real(self, command)

    monkeypatch.setattr(EngineThread, "ask", full_at_first)
    monkeypatch.setattr("transport.supervise.AGAIN_FIRST_S", 0.05)
    node = await run(Person(tmp_path, "ada"), keeper)
    assert not await within(dht_of(node).lookups.records(keeper.device)), "nor does anybody hang"
    await eventually(lambda: published(node))
    assert refused.keys() == {d.DhtStart, d.OwnPublications}
    counts = dht_of(node).counts
    assert (counts["crashed"], counts["publish-disk-full"]) == (1, 1)
