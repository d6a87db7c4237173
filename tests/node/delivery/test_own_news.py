"""What is new of us reaches whole nodes: over a link at once; and blocking ends links."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import mls_rs
import pytest

from node.engine import commands as c
from node.engine import delivery_commands as d
from node.node import Node
from schemas.errors import Fault
from tests.node.delivery.real import Person, befriend, texts
from tests.node.delivery.support import within


@pytest.fixture
async def stack(kj: None) -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as opened:
        yield opened


async def called(reader: Node, person: Node, name: str) -> None:
    """Until `reader` knows `person` by that name."""
    async with asyncio.timeout(15):
        while (await reader.ask(d.LookUpPeer(person.device))).name != name:
            await asyncio.sleep(0.02)


async def test_new_name_reaches_a_linked_node_at_once(
    tmp_path: Path, stack: AsyncExitStack
) -> None:
    ada = await stack.enter_async_context(Person(tmp_path, "ada").running())
    bob = await stack.enter_async_context(Person(tmp_path, "bob").running())
    await befriend(ada, bob)
    await within(ada.ping(bob.identity.hex()))
    await bob.ask(c.SetName("Bobby"))
    await called(ada, bob, "Bobby")
    await bob.ask(c.SetName("Robert"))
    await called(ada, bob, "Robert")


async def test_somebody_blocked_loses_the_link_and_finds_nobody(
    tmp_path: Path, stack: AsyncExitStack
) -> None:
    ada = await stack.enter_async_context(Person(tmp_path, "ada").running())
    mal = await stack.enter_async_context(Person(tmp_path, "mal").running())
    await befriend(ada, mal)
    group = (await within(mal.direct_group(ada.identity, suite=mls_rs.CLASSIC))).group
    await mal.ask(c.Send(group, "hello"))
    assert (await texts(ada, 1))[0].text == "hello"
    await ada.ask(c.Block(mal.identity))
    await mal.ask(c.Send(group, "are you there?"))
    async with asyncio.timeout(15):
        while await ada.peers():
            await asyncio.sleep(0.02)
    with pytest.raises(Fault):
        await within(mal.ping(ada.identity.hex()))
    assert not [m for m in await ada.ask(c.ReadMessages("test")) if m.text != "hello"]
