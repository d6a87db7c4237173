"""Peers on the LAN that fall silent are gone soon, and back when they answer; nobody else is."""

from __future__ import annotations

import asyncio
import dataclasses
import os
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import cast

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from discovery.lan_events import Peer, PeerChange
from discovery.mdns import Mdns
from node.delivery.lan_presence import Presence
from node.delivery.limits import DEFAULT_DELIVERY_LIMITS
from node.delivery.links import Links
from schemas.addresses import Address, AddressKind, EndpointAddress
from schemas.errors import Unreachable
from schemas.ids import DeviceKey
from transport import Connection, Endpoint, Prober

DEADLINE_S = 10.0
LIMITS = dataclasses.replace(
    DEFAULT_DELIVERY_LIMITS,
    lan_quiet_s=0.02,
    lan_silent_s=0.1,
    lan_absent_first_s=0.02,
    lan_absent_last_s=0.3,
)
PEER = DeviceKey(os.urandom(32))


@dataclass
class FakeConnection:
    remote: Address
    answers: bool = True
    last_heard_at: float = 0.0
    asked: int = 0

    async def ping(self, deadline_s: float) -> float:
        self.asked += 1
        if not self.answers:
            raise Unreachable("ping-unanswered", f"none for {deadline_s} s")
        return 0.0


@dataclass
class FakeLink:
    connection: FakeConnection
    closed: list[str] = field(default_factory=list)

    def close(self, why: str) -> None:
        self.closed.append(why)


@dataclass
class FakeLinks:
    link: FakeLink | None = None

    def get(self, device: DeviceKey) -> FakeLink | None:
        return self.link if device == PEER else None


@dataclass
class Lan:
    """A table that nobody announces to, and the Presence that looks after it."""

    mdns: Mdns
    prober: Prober
    links: FakeLinks
    counters: Counter[str]

    def hear(self, *addresses: Address) -> None:
        endpoints = tuple(EndpointAddress(each, AddressKind.LAN) for each in addresses)
        self.mdns._tell(self.mdns._table.see("one", Peer(PEER, "Ada", endpoints, 1.0)))

    async def until(self, change: PeerChange) -> None:
        async with asyncio.timeout(DEADLINE_S):
            with self.mdns.watch() as events:
                async for event in events:
                    if event.change is change:
                        return


@asynccontextmanager
async def lan() -> AsyncIterator[Lan]:
    counters = Counter[str]()
    mdns = Mdns(DeviceKey(os.urandom(32)))
    prober = await Prober.open(rate=1e6)
    links = FakeLinks()
    presence = Presence(mdns, prober, LIMITS, counters)
    running = asyncio.create_task(presence.run(cast(Links, links)))
    await asyncio.sleep(0)
    try:
        yield Lan(mdns, prober, links, counters)
    finally:
        running.cancel()
        await asyncio.wait([running])
        await presence.close()
        prober.close()
        await mdns.close()


async def serve(connection: Connection) -> None:
    await connection.wait_closed()


async def listen(port: int = 0) -> Endpoint:
    key = Ed25519PrivateKey.generate()
    return await Endpoint.open(key, Address("127.0.0.1", port), handlers={"x": serve})


async def eventually(true: Callable[[], object]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not true():
            await asyncio.sleep(0.005)


async def test_a_peer_that_falls_silent_is_gone_and_back_when_it_answers() -> None:
    """A laptop whose lid was closed for a while: nothing announces it again."""
    async with lan() as there:
        endpoint = await listen()
        there.hear(endpoint.address)
        await eventually(lambda: there.prober.counters["probe-answered"] >= 3)
        assert there.mdns.find(PEER) is not None
        await endpoint.close()
        await eventually(lambda: there.mdns.find(PEER) is None)
        assert there.counters["lan-peer-silent"] == 1
        again = await listen(endpoint.address.port)
        await eventually(lambda: there.mdns.find(PEER) is not None)
        await again.close()


async def test_after_a_goodbye_that_is_not_true_the_peer_is_back() -> None:
    async with lan() as there:
        endpoint = await listen()
        there.hear(endpoint.address)
        await eventually(lambda: there.prober.counters["probe-answered"])
        there.mdns._leave("one")
        assert there.mdns.find(PEER) is None
        await eventually(lambda: there.mdns.find(PEER) is not None)
        assert there.mdns._departed.stays("one")
        await endpoint.close()


async def test_who_never_answers_is_given_up_until_heard_again() -> None:
    async with lan() as there:
        silent = Address("127.0.0.1", 9)
        there.hear(silent)
        await eventually(lambda: there.mdns.find(PEER) is None)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1.0):
                await eventually(lambda: there.mdns.find(PEER) is not None)
        sent = there.prober.counters["probe-sent"]
        await asyncio.sleep(0.2)
        assert there.prober.counters["probe-sent"] == sent, "it is asked for ever"
        there.hear(silent)
        assert there.mdns.find(PEER) is not None


async def test_a_peer_that_we_are_linked_to_gets_no_probes_and_a_dead_link_is_ended() -> None:
    async with lan() as there:
        address = Address("127.0.0.1", 9)
        link = FakeLink(FakeConnection(address))
        there.links.link = link
        there.hear(address)
        await eventually(lambda: link.connection.asked >= 2)
        assert there.prober.counters["probe-sent"] == 0
        link.connection.last_heard_at = asyncio.get_running_loop().time() + 0.2
        asked = link.connection.asked
        await asyncio.sleep(0.1)
        assert link.connection.asked <= asked + 1, "whose traffic we hear is not asked"
        link.connection.last_heard_at = 0.0
        link.connection.answers = False
        await eventually(lambda: there.mdns.find(PEER) is None)
        assert link.closed == ["no answer on the LAN"]
