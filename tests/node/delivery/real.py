"""Real nodes on loopback in one process: homes, people, and what users would look at."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from node.engine import commands as c
from node.engine import values as v
from node.home import create_home
from node.node import Node, NodeConfig
from schemas.addresses import Address
from schemas.errors import Refused
from schemas.ids import GroupId
from tests.node.delivery.support import LOOPBACK, QUICK, QUICK_TRANSPORT

FAST = dataclasses.replace(QUICK, hello_deadline_s=5.0, request_burst=30, key_package_stock=2)


class Person:
    """A home, and the node that runs in it, if one does."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder / name
        self.name = name
        create_home(self.folder, name)

    @asynccontextmanager
    async def running(
        self, *relays: str, listen: Address | None = LOOPBACK, **changes: Any
    ) -> AsyncIterator[Node]:
        config = NodeConfig(
            self.folder,
            listen=listen,
            relays=relays or None,
            mdns=changes.pop("mdns", False),
            mdns_interfaces=changes.pop("mdns_interfaces", None),
            limits=dataclasses.replace(FAST, **changes),
            transport_limits=QUICK_TRANSPORT,
        )
        async with Node.running(config) as node:
            yield node


async def card(node: Node) -> str:
    return (await node.ask(c.WhoAmI())).card


async def befriend(a: Node, b: Node) -> None:
    await a.add_contact(await card(b))
    await b.add_contact(await card(a))


async def once_stocked(ada: Node, bob: Node) -> v.GroupView:
    """A group of these two: bob's key packages come to his relay a moment after he has."""
    async with asyncio.timeout(15):
        while True:
            try:
                return await ada.direct_group(bob.identity)
            except Refused as refused:
                if refused.code != "no-key-package":
                    raise
                await asyncio.sleep(0.05)


async def joined(node: Node, group: GroupId, seconds: float = 10.0) -> None:
    """Be in the group: accept the invitation when it has come, unless that went by itself."""
    async with asyncio.timeout(seconds):
        while group not in {g.group for g in await node.ask(c.ListGroups()) if g.accepted}:
            if group in {request.group for request in await node.ask(c.ListRequests())}:
                await node.ask(c.Join(group))
                return
            await asyncio.sleep(0.02)


async def texts(node: Node, count: int, seconds: float = 15.0) -> list[v.MessageView]:
    """The first `count` messages of others, when they are there."""
    try:
        async with asyncio.timeout(seconds):
            while True:
                found = [m for m in await node.ask(c.ReadMessages("test")) if not m.own]
                if len(found) >= count:
                    return found
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"{len(found)} of {count} messages; {node.counters}") from None


async def ledger(
    node: Node, message: v.SentView, states: Sequence[str], seconds: float = 15.0
) -> Sequence[v.LedgerView]:
    """The ledger, when every recipient's state is one of `states`."""
    try:
        async with asyncio.timeout(seconds):
            while True:
                rows = await node.ask(c.ReadLedger(message.message.hex()))
                if rows and all(row.state in states for row in rows):
                    return rows
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"{rows}; {node.counters}") from None


DONE = ("delivered", "read")
