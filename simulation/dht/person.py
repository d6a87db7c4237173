"""One who takes part: keys and a card for good, and a node, an address and a record by session."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from discovery.dht.contact import DhtContact, OnOurNetwork
from discovery.dht.limits import DhtLimits
from discovery.dht.node import DhtNode
from discovery.dht.publication import (
    cells_to_read,
    open_private_untrusted,
    private_publications,
)
from discovery.dht.watching import LookupEvent, Watch
from discovery.record import sign_endpoint_record
from identity.cell import Cell, seal_into_cell
from identity.keys import KeyPair, device_from_seed
from identity.signing import sign
from schemas.addresses import Address, AddressKind, EndpointAddress
from schemas.dht import DhtValue
from schemas.ids import DeviceKey
from schemas.limits import ENDPOINT_LIFETIME_S
from schemas.records import EndpointRecord, Signed, SignedType
from simulation.dht.network import Host, Network, NetworkRpc
from simulation.dht.population import Kind

Clock = Callable[[], float]

FORGED_SEQUENCE: Final = 2**40
NOWHERE: Final = Address("192.0.2.1", 7000)
FIRST_TRY_S: Final = 10.0  # after a publication that nobody kept, and twice that after the next

nobody_private: OnOurNetwork = lambda address: False  # noqa: E731 - all addresses are public here


class Person:
    """`last_seen`: the routing table at the end of the last session."""

    def __init__(self, number: int, kind: Kind, seed: int) -> None:
        self.kind = kind
        self.name = f"{kind.value}-{number}"
        self.rng = random.Random(f"person {seed} {number}")
        self.keys = device_from_seed(self.rng.randbytes(32))
        self.discovery_secret = self.rng.randbytes(32)  # on the card
        self.last_seen: Sequence[DhtContact] = ()
        self.sequence = 0

    def record(self, address: Address, now: float) -> Signed:
        """A new endpoint record, newer than all before it."""
        self.sequence += 1
        endpoint = EndpointAddress(address, AddressKind.PUBLIC)
        issued = int(now)
        record = EndpointRecord(
            self.keys.public, self.sequence, (endpoint,), (), issued, issued + ENDPOINT_LIFETIME_S
        )
        return sign_endpoint_record(self.keys, record)

    def cells(self, now: float, limits: DhtLimits) -> list[Cell]:
        """Where those who have the card look."""
        device = self.keys.public
        return cells_to_read(device, self.discovery_secret, now=now, limits=limits)


@dataclass(frozen=True, slots=True)
class Card:
    """What a contact of `author` knows of one cell: enough to seal into it."""

    author: DeviceKey
    cell: Cell

    def forge(self, liar: KeyPair[DeviceKey], now: float, random: Callable[[int], bytes]) -> Signed:
        """A value for the cell that readers can open, with an address that is not the author's."""
        issued = int(now)
        there = EndpointAddress(NOWHERE, AddressKind.PUBLIC)
        ends = issued + ENDPOINT_LIFETIME_S
        record = EndpointRecord(self.author, FORGED_SEQUENCE, (there,), (), issued, ends)
        inner = Signed(record.encode(), bytes(self.author), liar.sign(record.encode()))
        sealed = seal_into_cell(self.cell, inner.encode(), random)
        value = DhtValue(self.cell.id, int(now * 1000), issued, ends, sealed)
        return sign(SignedType.DHT_VALUE, liar, value.encode())


@dataclass(slots=True)
class Found:
    """What a look-up found, and what it took. `sequence`: of the newest record; None: nothing.

    `forged`: a record that is not its author's word was believed.
    """

    sequence: int | None
    forged: bool
    messages: int = 0
    hops: int | None = None  # asked one after the other until the first value that counts
    first_s: float | None = None  # until then


class Session:
    """A person who is online."""

    def __init__(
        self, person: Person, host: Host, node: DhtNode, clock: Clock, limits: DhtLimits
    ) -> None:
        self.person = person
        self.host = host
        self.node = node
        self.began = asyncio.get_running_loop().time()
        self.contact = DhtContact(host.device, host.address)
        self.record = person.record(host.address, clock())
        self.task: asyncio.Task[None] | None = None
        self._clock = clock
        self._limits = limits

    @classmethod
    def make(
        cls, person: Person, host: Host, network: Network, clock: Clock, limits: DhtLimits
    ) -> Session:
        nobody = DeviceKey(hashlib.sha256(person.rng.randbytes(32)).digest())
        node = DhtNode(
            person.keys.public,
            NetworkRpc(network, host, nobody),
            clock=clock,
            rng=person.rng,
            on_our_network=nobody_private,
            server=True,
            limits=limits,
        )
        host.answer = node.answer
        return cls(person, host, node, clock, limits)

    async def live(self, known: Sequence[DhtContact]) -> None:
        """Until it is cancelled."""
        await self.node.bootstrap(known)
        async with asyncio.TaskGroup() as group:
            group.create_task(self.node.run())
            if self.person.kind is not Kind.LIAR:
                group.create_task(self._publish())

    async def _publish(self) -> None:
        """Again and again: those who keep it come and go, too."""
        rest_s = FIRST_TRY_S
        while True:
            kept = [
                await self.node.publish(each.key, each.value)
                for each in private_publications(
                    self.person.keys,
                    self.person.discovery_secret,
                    self.record,
                    now=self._clock(),
                    limits=self._limits,
                    random=self.person.rng.randbytes,
                )
            ]
            full_s = self._limits.republish_s
            rest_s = full_s if all(kept) else min(2 * rest_s, full_s)
            await asyncio.sleep(rest_s * self.person.rng.uniform(0.9, 1.0))

    async def find(self, author: Person, watch: Watch | None = None) -> Found:
        """Where is the author? As a node asks that has the card."""
        found = Found(None, forged=False)

        def seen(event: LookupEvent) -> None:
            _count(found, event)
            if watch is not None:
                watch(event)

        device = author.keys.public
        now = self._clock()
        cells = author.cells(now, self._limits)

        async def look_into(cell: Cell) -> list[Signed]:
            def check(value: Signed) -> Signed:
                return open_private_untrusted(cell, device, value, now=now)

            return await self.node.find(cell.id, check, seen)

        answers = await asyncio.gather(*map(look_into, cells))
        for signed in (value for answer in answers for value in answer):
            record = EndpointRecord.decode(signed.payload)
            found.forged |= record.device != device or record.sequence > author.sequence
            found.sequence = max(found.sequence or 0, record.sequence)
        return found


def _count(found: Found, event: LookupEvent) -> None:
    if event.step == "asked":
        found.messages += 1
    elif event.step == "found" and (found.first_s is None or event.seconds < found.first_s):
        found.first_s, found.hops = event.seconds, event.hops
