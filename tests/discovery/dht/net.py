"""A DHT in one process and in virtual time: every node asks every other through `NetRpc`."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from discovery.dht.contact import DhtContact
from discovery.dht.limits import DEFAULT_DHT_LIMITS, DhtLimits
from discovery.dht.node import DhtNode
from discovery.dht.rpc import Asker
from identity.keys import KeyPair, device_from_seed
from identity.signing import sign
from schemas.addresses import Address, AddressKind, EndpointAddress
from schemas.dht import (
    Contacts,
    DhtError,
    DhtResponse,
    DhtValue,
    FindNode,
    FindValue,
    Store,
    Stored,
    ToldContact,
    Values,
)
from schemas.errors import Malformed, Refused, Unreachable
from schemas.ids import DeviceKey, DhtId
from schemas.records import EndpointRecord, Signed, SignedType
from tests.transport.virtual import JumpingLoop

T = TypeVar("T")
Answer = Callable[[Asker, FindNode | FindValue | Store], DhtResponse]

LATENCY_S = 0.05
START = 1_800_014_400.0  # Unix seconds; noon UTC, no midnight near
KEY = DhtId(bytes(range(32)))


@dataclass(eq=False, slots=True)
class Member:
    """A node, where it is, and what it answers; None: silence."""

    contact: DhtContact
    node: DhtNode
    answer: Answer | None
    asked: Counter[str]  # requests that came, by kind

    @property
    def device(self) -> DeviceKey:
        return self.contact.device


class NetRpc:
    """The `Rpc` of one node: with its device key when it announces, else with a throw-away key."""

    def __init__(self, net: Net, device: DeviceKey, address: Address) -> None:
        self._net = net
        self._device = Asker(device, address)
        self._nobody = Asker(net.device_key(), Address(address.host, address.port + 1))

    async def find_node(
        self, contact: DhtContact, target: DhtId, *, announce: bool
    ) -> Sequence[ToldContact]:
        request = FindNode(target, announce)
        asker = self._device if announce else self._nobody
        response = await self._net.carry(asker, contact, request)
        if not isinstance(response, Contacts):
            raise Malformed("wrong-answer", "not what was asked")
        return response.contacts

    async def find_value(self, contact: DhtContact, key: DhtId) -> Values:
        response = await self._net.carry(self._nobody, contact, FindValue(key))
        if not isinstance(response, Values):
            raise Malformed("wrong-answer", "not what was asked")
        return response

    async def store(self, contact: DhtContact, key: DhtId, value: Signed) -> None:
        response = await self._net.carry(self._nobody, contact, Store(key, value))
        if not isinstance(response, Stored):
            raise Malformed("wrong-answer", "not what was asked")


class Net:
    """Nodes at global addresses of different /24s, unless an address is given."""

    def __init__(self, loop: JumpingLoop, *, seed: int = 1) -> None:
        self.loop = loop
        self.rng = random.Random(seed)
        self.members: dict[Address, Member] = {}
        self.requests = 0
        self._networks = iter(self.rng.sample(range(11 << 16, 100 << 16), 20_000))

    def device_key(self) -> DeviceKey:
        return DeviceKey(self.rng.randbytes(32))

    def clock(self) -> float:
        return START + self.loop.time()

    def address(self, prefix: str | None = None) -> Address:
        """In a /24 of its own, or in `prefix` ("192.0.2")."""
        if prefix is None:
            network = next(self._networks)
            prefix = f"{network >> 16}.{network >> 8 & 255}.{network & 255}"
        return Address(f"{prefix}.{self.rng.randrange(1, 255)}", self.rng.randrange(1024, 65000))

    def add(
        self,
        address: Address | None = None,
        *,
        device: DeviceKey | None = None,
        server: bool = True,
        ours: Callable[[Address], bool] = lambda _: False,
        limits: DhtLimits = DEFAULT_DHT_LIMITS,
    ) -> Member:
        contact = DhtContact(device or self.device_key(), address or self.address())
        node = DhtNode(
            contact.device,
            NetRpc(self, contact.device, contact.address),
            clock=self.clock,
            rng=random.Random(self.rng.random()),
            on_our_network=ours,
            server=server,
            limits=limits,
        )
        member = Member(contact, node, node.answer, Counter())
        self.members[contact.address] = member
        return member

    def add_many(self, count: int, **options: Any) -> list[Member]:
        return [self.add(**options) for _ in range(count)]

    def acquaint(self, members: Sequence[Member], others: Sequence[Member] = ()) -> None:
        """As if each had asked each (or each of `others`), long ago and just now."""
        for member in members:
            table = member.node._table
            for other in others or members:
                table.answered(other.contact, self.clock() - 600)
                table.answered(other.contact, self.clock())

    async def carry(
        self, asker: Asker, contact: DhtContact, request: FindNode | FindValue | Store
    ) -> DhtResponse:
        self.requests += 1
        await asyncio.sleep(LATENCY_S)
        member = self.members.get(contact.address)
        if member is None or member.device != contact.device or member.answer is None:
            await asyncio.sleep(60)
            raise Unreachable("no-answer", "nobody is there")
        member.asked[type(request).__name__] += 1
        response = member.answer(asker, request)
        await asyncio.sleep(LATENCY_S)
        if isinstance(response, DhtError):
            raise Refused(response.code, response.message)
        return response

    def run(self, scenario: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(asyncio.wait_for(scenario, 100_000))


def contact_near(net: Net, key: DhtId, rank_bits: int, address: Address) -> DhtContact:
    """One whose id shares at least `rank_bits` first bits with `key`: as an attacker grinds it."""
    while True:
        contact = DhtContact(net.device_key(), address)
        if (contact.long_id ^ int.from_bytes(key, "big")).bit_length() <= 256 - rank_bits:
            return contact


def signer(number: int) -> KeyPair[DeviceKey]:
    return device_from_seed(number.to_bytes(32, "big"))


def value_of(
    key: KeyPair[DeviceKey],
    cell: DhtId = KEY,
    *,
    sequence: int = 1,
    now: float = START,
    lives_s: int = 3600,
    sealed: bytes = b"sealed",
) -> Signed:
    payload = DhtValue(cell, sequence, int(now), int(now) + lives_s, sealed).encode()
    return sign(SignedType.DHT_VALUE, key, payload)


def record_of(
    device: KeyPair[DeviceKey], *, sequence: int = 1, now: float = START, lives_s: int = 3600
) -> Signed:
    address = EndpointAddress(Address("203.0.113.9", 7000), AddressKind.PUBLIC)
    issued = int(now)
    record = EndpointRecord(device.public, sequence, (address,), (), issued, issued + lives_s)
    return sign(SignedType.ENDPOINT_RECORD, device, record.encode())
