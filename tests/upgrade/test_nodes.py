"""Homes and a relay of the first version, run by this one: everybody gets what waited for them,
and their groups go on."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from node.engine import commands as c
from node.engine import values as v
from node.node import Node, NodeConfig
from tests.node.delivery.real import DONE, FAST, befriend, ledger
from tests.node.delivery.support import LOOPBACK, QUICK_TRANSPORT, Relays
from tests.upgrade.unpacked import PEOPLE, SPLIT, renew_home, renew_relay, unpack


@pytest.fixture
async def people(kj: None, tmp_path: Path) -> AsyncIterator[dict[str, Node]]:
    async with AsyncExitStack() as stack:
        renew_relay(unpack("relay", tmp_path))
        relay = await Relays(stack, tmp_path)()
        nodes = {}
        for name in PEOPLE:
            home = unpack(name, tmp_path)
            renew_home(home)
            relays = (str(relay.address),) if name == "cy" else None
            nodes[name] = await stack.enter_async_context(Node.running(config(home, relays)))
        yield nodes


def config(home: Path, relays: tuple[str, ...] | None = None) -> NodeConfig:
    return NodeConfig(
        home,
        listen=LOOPBACK,
        relays=relays,
        mdns=False,
        limits=dataclasses.replace(FAST),
        transport_limits=QUICK_TRANSPORT,
    )


async def heard(node: Node, *texts: str) -> None:
    """All messages of others, by a cursor that has read nothing: each once."""
    async with asyncio.timeout(15):
        while True:
            found = [m.text for m in await node.ask(c.ReadMessages("fresh", None, 1000))]
            if set(texts) <= set(found):
                assert len(found) == len(set(found)), f"twice: {found}"
                return
            await asyncio.sleep(0.02)


async def test_what_waited_arrives_and_the_groups_go_on(people: dict[str, Node]) -> None:
    ada, bob, cy, dan = people.values()
    # From the relay's old database, with nobody reachable but the relay.
    await heard(cy, "waits at the relay", "waits there too", "Bob after the update")

    for a, b in ((ada, bob), (ada, cy), (ada, dan), (bob, cy), (bob, dan)):
        await befriend(a, b)
    # Ada's outbox, and with it the commit that Dan's early message at Bob's waits for.
    await heard(bob, "pending for Bob", "early for Bob", "Ada to Bob alone")

    (invitation,) = await bob.ask(c.ListRequests())
    assert (await bob.ask(c.Join(invitation.group))).name == "quay"

    for name, members in (
        ("harbour", (ada, bob, cy)),
        ("mole", (ada, bob, dan)),
        ("slip", (ada, cy)),
        ("quay", (bob, dan)),
    ):
        sent: list[tuple[Node, v.SentView]] = []
        for member in members:
            group = (await member.ask(c.FindGroup(name))).group
            text = f"{member.name} in {name} today"
            sent.append((member, await member.ask(c.Send(group, text))))
        for member in members:
            others = [f"{other.name} in {name} today" for other in members if other is not member]
            await heard(member, *others)
        for member, message in sent:
            await ledger(member, message, DONE)
    direct = await ada.direct_group(bob.identity)
    await ada.ask(c.Send(direct.group, "still alone?"))
    await heard(bob, "still alone?")


async def test_a_group_that_stayed_split_is_one_again(kj: None, tmp_path: Path) -> None:
    """The second version saw forks, and could do nothing about them."""
    async with AsyncExitStack() as stack:
        nodes = []
        for name in SPLIT:
            home = unpack(name, tmp_path)
            renew_home(home)
            nodes.append(await stack.enter_async_context(Node.running(config(home))))
        eve, fay = nodes
        await befriend(eve, fay)
        for node, other in ((eve, fay), (fay, eve)):
            await heard(
                node, f"{other.name} on a branch of her own", f"{other.name} after the split"
            )
        fork = (await eve.ask(c.FindGroup("fork"))).group
        views = [await node.ask(c.FindGroup("fork")) for node in nodes]
        assert {view.status for view in views} == {v.GroupStatus.ACTIVE}
        assert len({view.epoch_id for view in views}) == 1
        await ledger(eve, await eve.ask(c.Send(fork, "whole again")), DONE)
        await heard(fay, "whole again")


async def test_cursors_go_on_where_they_were(people: dict[str, Node]) -> None:
    bob = people["bob"]
    harbour = (await bob.ask(c.FindGroup("harbour"))).group
    left = await bob.ask(c.ReadMessages("half", harbour, 10))
    assert "Ada in the first epoch" not in [m.text for m in left]
    assert "Cy after the update" in [m.text for m in left]
    verified = {one.name: one.verified for one in await people["ada"].ask(c.ListContacts())}
    assert verified == {"Bob": True, "Cy": False, "Dan": False}
