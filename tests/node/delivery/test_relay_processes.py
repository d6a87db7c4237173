"""A relay with several processes behind one key: each node finds its own, and goes on elsewhere."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from node.delivery.relay_processes import followed
from relay.config import load_config
from relay.server import Relay, open_relay
from schemas.addresses import Address, RelayAddress
from schemas.errors import Unreachable
from schemas.ids import DeviceKey
from tests.node.delivery.support import (
    QUICK_TRANSPORT,
    FakeEngine,
    FakeNode,
    FakeNodes,
    Relays,
    eventually,
    silent_address,
    within,
)
from tests.relay.support import parcel
from tests.timing import soonest

QUICK_RETURN = {
    "relay_return_first_s": 0.3,
    "relay_quiet_s": 0.2,
    "relay_proof_s": 0.3,
    "check_push_s": 60.0,
}


class Fleet:
    """Relays of one key, each with a store of its own: which one was asked can be seen there."""

    def __init__(self, stack: AsyncExitStack, folder: Path) -> None:
        self._stack = stack
        self._folder = folder
        self._running: dict[int, AsyncExitStack] = {}
        self._listen: dict[int, str] = {}
        folder.mkdir()
        self._key = folder / "relay.pem"
        pem = Ed25519PrivateKey.generate().private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
        )
        self._key.write_bytes(pem)
        self.processes: dict[int, Relay] = {}

    async def start(self, number: int) -> Relay:
        """At the same port as before, if it ran before."""
        stack = await self._stack.enter_async_context(AsyncExitStack())
        flags: dict[str, Any] = {
            "listen": self._listen.get(number, "127.0.0.1:0"),
            "data_dir": str(self._folder / str(number)),
            "tls_key": str(self._key),
            "dht": False,
        }
        config = load_config(flags, {}, None)
        relay = await stack.enter_async_context(open_relay(config, limits=QUICK_TRANSPORT))
        self._running[number] = stack
        self._listen[number] = str(relay.listen)
        self.processes[number] = relay
        return relay

    async def stop(self, number: int) -> None:
        await self._running.pop(number).aclose()

    @property
    def address(self) -> RelayAddress:
        first = self.processes[0].address
        return first.at(relay.listen for relay in self.processes.values())

    def number_of(self, place: Address) -> int:
        return next(n for n, relay in self.processes.items() if relay.listen == place)

    def order_for(self, device: DeviceKey) -> list[int]:
        return [self.number_of(place) for place in self.address.order_for(device)]

    def subscribed(self, device: DeviceKey) -> list[int]:
        """Where the device listens."""
        return [
            number
            for number, relay in self.processes.items()
            if number in self._running and relay.service.subscriptions.latest(device) is not None
        ]


@pytest.fixture
async def fleet(relays: Relays) -> Fleet:
    fleet = Fleet(relays.stack, relays.folder / "fleet")
    for number in range(3):
        await fleet.start(number)
    return fleet


def reader(address: RelayAddress) -> FakeEngine:
    engine = FakeEngine()
    engine.relays = (str(address),)
    return engine


async def at_its_first(fleet: Fleet, engine: FakeEngine) -> None:
    await eventually(lambda: fleet.order_for(engine.key)[0] in fleet.subscribed(engine.key))


async def test_a_node_listens_at_its_own_process_and_mail_comes_there(
    nodes: FakeNodes, fleet: Fleet
) -> None:
    """The sender finds the process that the recipient is at: nobody has to be woken elsewhere."""
    readers = [reader(fleet.address) for _ in range(4)]
    a = await nodes()
    for engine in readers:
        await nodes(engine=engine)
        a.knows(engine, relays=[str(fleet.address)])
    for engine in readers:
        await at_its_first(fleet, engine)
        assert len(fleet.subscribed(engine.key)) == 1
        [outcome] = await a.outcomes(a.post(engine))
        assert outcome.held is not None
        place = RelayAddress.parse(outcome.held[0]).address
        assert fleet.number_of(place) == fleet.order_for(engine.key)[0]
    await eventually(lambda: [len(engine.arrived) for engine in readers] == [1] * 4)


async def test_when_its_process_goes_a_node_is_at_the_next_and_returns_later(
    nodes: FakeNodes, fleet: Fleet
) -> None:
    away = reader(fleet.address)
    b = await nodes(engine=away, **QUICK_RETURN)
    a = await nodes(**QUICK_RETURN)
    a.knows(away, relays=[str(fleet.address)])
    first, second, _ = fleet.order_for(away.key)
    await at_its_first(fleet, away)
    await a.outcomes(a.post(away, 2))
    await fleet.stop(first)
    await eventually(lambda: fleet.subscribed(away.key) == [second])
    sent = a.post(away, 3)
    assert all(outcome.held for outcome in await a.outcomes(sent))
    await eventually(lambda: len({each.parcel.id for each in away.arrived}) == 5)
    assert b.delivery.own_relays.addresses == [fleet.address]

    await fleet.start(first)
    await eventually(lambda: first in fleet.subscribed(away.key))
    keeper = b.delivery.own_relays._keepers[fleet.address.device]
    client = keeper._client
    assert client is not None
    assert fleet.number_of(client.address.address) == first
    # What the one that was left still pushes is not taken: that ends it.
    item = parcel(away.key, expires=2**37)
    await fleet.processes[second].store.enqueue([item], now=0)
    await eventually(lambda: fleet.subscribed(away.key) == [first])
    assert item.id not in {each.parcel.id for each in away.arrived}


async def test_a_process_about_to_end_is_left_at_once(
    nodes: FakeNodes, fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While calls end it still has its connections, and refuses with a wish for 5 s of peace."""
    away = reader(fleet.address)
    b = await nodes(engine=away, **QUICK_RETURN)
    a = await nodes()
    a.knows(away, relays=[str(fleet.address)])
    first, second, _ = fleet.order_for(away.key)
    await at_its_first(fleet, away)
    await a.outcomes(a.post(away))
    ended = asyncio.Event()
    monkeypatch.setattr(fleet.processes[first].service, "drain", ended.wait)
    stopping = asyncio.create_task(fleet.processes[first].desk.stop(30.0))
    await asyncio.sleep(0)
    b.delivery.own_relays.publish()
    sent = a.post(away, 3)
    await eventually(lambda: fleet.subscribed(away.key) == [second], 3)
    for outcome in await a.outcomes(sent, 3):
        assert outcome.held is not None
        assert RelayAddress.parse(outcome.held[0]).address == fleet.processes[second].listen
    assert all(len(a.engine.outcomes[each]) == 1 for each in sent), "none had to be tried again"
    assert not stopping.done()
    ended.set()
    await within(stopping)


async def test_a_process_that_comes_and_goes_is_not_run_after(
    nodes: FakeNodes, fleet: Fleet
) -> None:
    """Each failure doubles the time that another one is preferred."""
    away = reader(fleet.address)
    node = await nodes(engine=away, **(QUICK_RETURN | {"relay_return_first_s": 30.0}))
    first, second, _ = fleet.order_for(away.key)
    await at_its_first(fleet, away)
    await fleet.stop(first)
    await eventually(lambda: fleet.subscribed(away.key) == [second])
    await fleet.start(first)
    pool, keeper = node.delivery.pool, node.delivery.own_relays._keepers[fleet.address.device]
    assert keeper._client is not None
    pause = pool.better_in(fleet.address, keeper._client)
    assert pause is not None
    assert 15 < pause < 40
    assert await within(pool.client(fleet.address)) is keeper._client
    node.delivery.network_changed()  # everything may be otherwise now
    assert (await within(pool.client(fleet.address))).address.address == (
        fleet.processes[first].listen
    )


async def test_silence_costs_whoever_calls_a_moment(nodes: FakeNodes, fleet: Fleet) -> None:
    """A dead process first in the order must not hold up a message until its dial ends."""
    a = await nodes(relay_dial_s=30.0)
    dead = Address.parse(await silent_address(fleet._stack))
    address = fleet.address.at([dead, fleet.processes[0].listen])
    owner = next(
        key
        for key in (DeviceKey(bytes([n]) * 32) for n in range(100))
        if address.order_for(key)[0] == dead
    )
    loop = asyncio.get_running_loop()
    began = loop.time()
    client = await within(a.delivery.pool.client(address, owner=owner))
    assert client.address.address == fleet.processes[0].listen
    assert loop.time() - began < 10, "no more than the moment: the dial may take 30 s"

    async def again() -> float:
        began = loop.time()
        assert await within(a.delivery.pool.client(address, owner=owner)) is client
        return loop.time() - began

    took = await soonest(again, below_s=0.1)
    assert took < 0.1, "while the dial goes on, and nobody waits for it"


async def test_who_writes_to_many_dials_a_dead_process_once(
    nodes: FakeNodes, fleet: Fleet, relays: Relays
) -> None:
    """Each recipient has a guise of ours; what one of them found dead, the next does not try."""
    knocks: list[int] = []  # the ports of guises

    class Silent(asyncio.DatagramProtocol):
        def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
            if addr[1] != a.delivery.endpoint.address.port:
                knocks.append(addr[1])

    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(Silent, local_addr=("127.0.0.1", 0))
    relays.stack.callback(transport.close)
    dead = Address(*transport.get_extra_info("sockname"))
    address = fleet.address.at([dead, fleet.processes[0].listen])
    everybody = (FakeEngine() for _ in range(100))
    readers = [each for each in everybody if address.order_for(each.key)[0] == dead][:3]
    a = await nodes(relay_dial_s=1.0, relay_next_s=5.0)
    for engine in readers:
        a.knows(engine, relays=[str(address)])
    first, *others = readers
    assert (await a.outcomes(a.post(first)))[0].held is not None
    await eventually(lambda: a.delivery.anonymous._unanswered.until((address.device, dead)))
    assert knocks
    knocks.clear()
    for engine in others:
        assert (await a.outcomes(a.post(engine)))[0].held is not None
    assert not knocks
    a.delivery.network_changed()  # it may be there, from here
    assert (await a.outcomes(a.post(first)))[0].held is not None
    assert knocks


async def test_a_stranger_s_list_spoils_nothing(nodes: FakeNodes, fleet: Fleet) -> None:
    """A contact names our relay's key with hosts that are dead: ours is reached all the same."""
    away = reader(fleet.address)
    node = await nodes(engine=away, relay_dial_s=0.2)
    await at_its_first(fleet, away)
    dead = Address.parse(await silent_address(fleet._stack))
    with pytest.raises(Unreachable):
        await within(node.delivery.pool.client(fleet.address.at([dead]), owner=away.key))
    assert (await within(node.delivery.pool.client(fleet.address))).address.address == (
        fleet.address.order_for(away.key)[0]
    )
    assert node.delivery.own_relays.addresses == [fleet.address]


async def test_two_addresses_of_one_key_are_one_relay(nodes: FakeNodes, fleet: Fleet) -> None:
    away = reader(fleet.address)
    one, two = (fleet.address.at([fleet.processes[n].listen]) for n in (0, 1))
    away.relays = (str(one), str(two))
    node = await nodes(engine=away)
    await eventually(lambda: fleet.subscribed(away.key))
    assert node.delivery.own_relays.addresses == [one.at([*one.processes, *two.processes])]
    assert await node.delivery.obtainer.relays_of([away.key]) == node.delivery.own_relays.addresses


# --- which processes there are


def tell(fleet: Fleet, places: Sequence[Address]) -> None:
    for relay in fleet.processes.values():
        relay.service.processes = lambda: tuple(places)


async def test_a_relay_tells_which_processes_it_has(nodes: FakeNodes, fleet: Fleet) -> None:
    """A user was given one address; the others are published to whoever writes to them."""
    only = fleet.address.at([fleet.processes[0].listen])
    tell(fleet, fleet.address.processes)
    away = reader(only)
    node = await nodes(engine=away)
    await eventually(
        lambda: set(RelayAddress.parse(away.relays[0]).processes) == set(fleet.address.processes)
    )
    await at_its_first(fleet, away)
    assert node.delivery.counters["relay-list-changed"] == 1


async def test_nonsense_is_not_followed(nodes: FakeNodes, fleet: Fleet) -> None:
    """A relay behind a NAT may believe that it is nowhere: the way that works is kept."""
    only = fleet.address.at([fleet.processes[0].listen])
    tell(fleet, [Address("0.0.0.0", 7000), Address("relay.example", 0)])
    away = reader(only)
    node: FakeNode = await nodes(engine=away)
    await eventually(lambda: fleet.subscribed(away.key))
    keeper = node.delivery.own_relays._keepers[only.device]
    await eventually(lambda: keeper._list_due)
    assert away.relays == (str(only),)
    tell(fleet, [Address("relay.example", 7000)])
    keeper._list_due = 0.0
    keeper.publish()
    await eventually(lambda: "relay.example" in away.relays[0])
    assert only.address in RelayAddress.parse(away.relays[0]).processes


PUBLIC, INSIDE, OFFICE, NAME = (
    Address(host, 7000) for host in ("8.8.8.8", "172.18.0.3", "192.168.1.5", "relay.example")
)


@pytest.mark.parametrize(
    ("told", "came_by", "remote", "taken"),
    [
        ([PUBLIC, INSIDE], PUBLIC, "8.8.8.8", [PUBLIC]),  # it runs in a container
        ([INSIDE, OFFICE], NAME, "8.8.8.8", []),  # or wants us to knock at our neighbours'
        ([INSIDE, OFFICE], OFFICE, "192.168.1.5", [INSIDE, OFFICE]),  # maybe they can be reached
        ([PUBLIC], NAME, "8.8.8.8", [PUBLIC, NAME]),
        ([], NAME, "8.8.8.8", []),
        ([Address("0.0.0.0", 7000)], NAME, "8.8.8.8", []),
        (
            [Address("8.8.8.8", n) for n in range(1, 9)],
            NAME,
            "8.8.4.4",
            [*(Address("8.8.8.8", n) for n in range(1, 8)), NAME],
        ),
    ],
)
def test_what_is_followed_of_a_relay_s_word(
    told: list[Address], came_by: Address, remote: str, taken: list[Address]
) -> None:
    assert followed(told, came_by, remote) == taken
