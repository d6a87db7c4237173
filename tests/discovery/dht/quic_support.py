"""Endpoints on loopback that speak the DHT, for the tests of its QUIC side."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from discovery.dht.contact import DhtContact
from discovery.dht.dial_back import DialBacker
from discovery.dht.quic import QuicRpc
from discovery.dht.quic_limits import DEFAULT_QUIC_LIMITS, QuicLimits
from discovery.dht.rpc import Asker
from discovery.dht.serving import DhtServer
from schemas.dht import (
    DHT_ALPN,
    Contacts,
    DhtResponse,
    FindNode,
    FindValue,
    Store,
    Stored,
    ToldContact,
    Values,
)
from schemas.ids import DhtId
from schemas.records import Signed
from transport import Address, AnonymousEndpoint, Connection, Endpoint

T = TypeVar("T")

LOOPBACK = Address("127.0.0.1", 0)
KEY = DhtId(bytes(32))


async def within(work: Awaitable[T], seconds: float = 10.0) -> T:
    async with asyncio.timeout(seconds):
        return await work


async def eventually(condition: Callable[[], object], seconds: float = 5.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)


async def open_anonymous() -> AnonymousEndpoint:
    return await AnonymousEndpoint.open_anonymous(LOOPBACK)


class Shelf:
    """Answers as a node of the DHT with a dictionary for a store would; remembers who asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[Asker, FindNode | FindValue | Store]] = []
        self.values: dict[DhtId, Signed] = {}
        self.contacts: list[ToldContact] = []

    def answer(self, asker: Asker, request: FindNode | FindValue | Store) -> DhtResponse:
        self.asked.append((asker, request))
        match request:
            case FindNode():
                return Contacts(self.contacts)
            case FindValue(key):
                found = self.values.get(key)
                return Values([] if found is None else [found], self.contacts)
            case Store(key, value):
                self.values[key] = value
                return Stored()


class Place:
    """One endpoint with both sides of the DHT."""

    def __init__(self, limits: QuicLimits = DEFAULT_QUIC_LIMITS) -> None:
        self.limits = limits
        self.shelf = Shelf()
        self.accepted: list[Connection] = []

    async def open(self, stack: AsyncExitStack) -> Place:
        dial_backer = DialBacker(open_anonymous, self.limits, Counter())
        self.server = DhtServer(self.shelf.answer, dial_backer, limits=self.limits)

        async def serve(connection: Connection) -> None:
            self.accepted.append(connection)
            await self.server.serve(connection)

        self.endpoint = await Endpoint.open(
            Ed25519PrivateKey.generate(), LOOPBACK, handlers={DHT_ALPN: serve}
        )
        stack.push_async_callback(self.endpoint.close)
        self.rpc = QuicRpc(self.endpoint, open_anonymous, limits=self.limits)
        stack.push_async_callback(self.rpc.close)
        return self

    @property
    def contact(self) -> DhtContact:
        return DhtContact(self.endpoint.device, self.endpoint.address)


OpenPlace = Callable[..., Awaitable[Place]]
