"""Whole nodes of the DHT on real sockets, in one process."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from discovery.dht.contact import DhtContact, node_id
from discovery.dht.publication import open_public_untrusted, public_publication
from discovery.dht.service import DhtService
from discovery.record import sign_endpoint_record
from discovery.scope import OwnNetworks
from identity.keys import device_from_seed, new_seed
from schemas.addresses import Address, AddressKind, BootstrapAddress, EndpointAddress
from schemas.dht import DHT_ALPN
from schemas.ids import DeviceKey
from schemas.records import EndpointRecord, Signed
from tests.discovery.dht.quic_support import LOOPBACK, eventually, open_anonymous, within
from tests.transport.test_endpoint import dead_address
from transport import Endpoint

NODES = 10
DEVICE = device_from_seed(new_seed())


class Running:
    """A node that takes part, as a server."""

    def __init__(self, *begin: BootstrapAddress) -> None:
        self.service = DhtService(
            clock=time.time,
            networks=lambda: OwnNetworks(()),
            open_anonymous=open_anonymous,
            server=True,
        )
        self._begin = begin
        self.known: list[tuple[DeviceKey, Address]] = []
        self._stack = AsyncExitStack()

    async def start(self) -> Running:
        self.endpoint = await Endpoint.open(
            Ed25519PrivateKey.generate(), LOOPBACK, handlers={DHT_ALPN: self.service.serve}
        )
        self._stack.push_async_callback(self.endpoint.close)
        self.service.start(self.endpoint)
        self._stack.push_async_callback(self.service.close)
        self._task = asyncio.create_task(self.service.run(self._begin, self.known))
        self._stack.push_async_callback(self._end)
        return self

    async def _end(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def stop(self) -> None:
        await self._stack.aclose()

    @property
    def contact(self) -> DhtContact:
        return DhtContact(self.endpoint.device, self.endpoint.address)


@pytest.fixture
async def network(no_leaked_tasks: None) -> AsyncIterator[list[Running]]:
    first = await Running().start()
    begin = BootstrapAddress(first.endpoint.address, None)
    others = [await Running(begin).start() for _ in range(NODES - 1)]
    nodes = [first, *others]
    await within(asyncio.gather(*(each.service.begun.wait() for each in others)))
    yield nodes
    await asyncio.gather(*(each.stop() for each in nodes))


def record(now: int) -> Signed:
    address = EndpointAddress(Address("203.0.113.9", 7000), AddressKind.PUBLIC)
    return sign_endpoint_record(
        DEVICE, EndpointRecord(DEVICE.public, now, (address,), (), now, now + 3600)
    )


async def find(seeker: Running) -> list[Signed]:
    def check(value: Signed) -> Signed:
        return open_public_untrusted(DEVICE.public, value, now=time.time())

    return await within(seeker.service.node.find(node_id(DEVICE.public), check))


async def finds(seekers: list[Running]) -> list[list[Signed]]:
    return list(await asyncio.gather(*map(find, seekers)))


async def settled(network: list[Running]) -> None:
    await eventually(
        lambda: all(len(each.service.node.contacts()) >= NODES // 2 for each in network), 30
    )


async def test_all_come_to_know_each_other_and_find_what_one_published_when_half_are_gone(
    network: list[Running],
) -> None:
    """One address was given; whoever it is, its end must not be everybody's."""
    await settled(network)
    author, first = network[3], network[0]
    published = public_publication(record(int(time.time())))
    kept = await within(author.service.node.publish(published.key, published.value))
    assert kept >= NODES // 2
    assert await finds(network) == [[published.value]] * NODES
    gone = [first, *(each for each in network[1:] if each is not author)][: NODES // 2]
    await asyncio.gather(*(each.stop() for each in gone))
    left = [each for each in network if each not in gone]
    assert await finds(left) == [[published.value]] * len(left)


async def test_one_that_lives_among_those_of_last_time_is_enough_to_begin() -> None:
    """Most are gone after a night; nobody waits for all their deadlines."""
    alive = await Running().start()
    dead = [dead_address() for _ in range(30)]
    known = [(device_from_seed(new_seed()).public, address) for _, address in dead]
    known.insert(1, (alive.endpoint.device, alive.endpoint.address))
    seeker = Running()
    seeker.known = known
    try:
        await seeker.start()
        await within(seeker.service.begun.wait(), 1.5)
        [contact] = seeker.service.node.contacts()
        assert contact.device == alive.endpoint.device
    finally:
        await seeker.stop()
        await alive.stop()
        for sock, _ in dead:
            sock.close()
