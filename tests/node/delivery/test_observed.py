"""What we say of our own address: what others agree on, and nothing that one of them made up."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from node.delivery.limits import DeliveryLimits
from node.delivery.observed import ObservedAddresses, Standing
from schemas.addresses import Address, AddressKind, RelayAddress
from schemas.ids import DeviceKey
from tests.node.delivery.support import FakeEngine, FakeNodes, Relays, eventually, stranger
from tests.transport.test_rebinding import Nat

OURS = Address("11.0.0.1", 7000)
OTHER_PORT = Address("11.0.0.1", 7001)
VICTIM = Address("11.0.0.99", 7000)
SIX = Address("2a00::1", 7000)
RELAY, ANOTHER = Address("12.0.0.1", 7000), Address("13.0.0.1", 7000)


_NO_ENGINE: Any = None


class Told:
    """What is published."""

    def __init__(self, *, linked: frozenset[DeviceKey] = frozenset(), **changes: float) -> None:
        self.addresses: tuple[Address, ...] = ()
        self.times = 0
        self.linked = set(linked)
        limits = DeliveryLimits(**changes)  # type: ignore[arg-type]
        self.observed = ObservedAddresses(
            _NO_ENGINE, limits, self._changed, lambda device: device in self.linked
        )

    def published(self, *addresses: Address) -> bool:
        """These and no others."""
        return self.addresses == addresses

    def _changed(self, addresses: tuple[Address, ...]) -> None:
        self.addresses = addresses
        self.times += 1

    def peer(
        self,
        number: int,
        address: Address,
        *,
        network: int | None = None,
        standing: Standing = Standing.ACQUAINTANCE,
    ) -> DeviceKey:
        """A peer in a network of its own, unless one is given, sees us there."""
        key = stranger()
        place = Address(f"14.0.{number if network is None else network}.{number}", 7000)
        self.observed.saw(key, place, address, standing)
        return key


@pytest.fixture
async def told() -> Told:
    return Told()


async def test_a_relay_of_ours_is_believed(told: Told) -> None:
    told.observed.saw(stranger(), RELAY, OURS, Standing.RELAY)
    assert told.published(OURS)
    told.observed.close()


async def test_one_peer_is_not_and_two_networks_are(told: Told) -> None:
    """Somebody's victim would get the packets of everybody who looks for us."""
    told.peer(1, OURS)
    told.peer(2, OURS, network=1)
    assert told.published(), "two devices of one network have one voice"
    told.peer(3, OURS)
    assert told.published(OURS)
    assert told.observed.candidates() == (OURS,)
    told.observed.close()


async def test_a_nat_with_another_port_for_each_peer_has_none_for_strangers(told: Told) -> None:
    told.observed.saw(stranger(), RELAY, OURS, Standing.RELAY)
    told.observed.saw(stranger(), ANOTHER, OTHER_PORT, Standing.RELAY)
    assert told.published()
    assert told.observed.hosts() == {OURS.host}, "but the host is ours"
    assert set(told.observed.candidates()) == {OURS, OTHER_PORT}, "to try, where both dial"
    told.observed.saw(stranger(), RELAY, Address("192.168.1.7", 7000), Standing.RELAY)
    assert told.observed.hosts() == {OURS.host}, "another machine in every home"
    told.observed.close()


async def test_liars_cannot_outvote_our_relay_alone_and_one_family_not_the_other(
    told: Told,
) -> None:
    told.observed.saw(stranger(), RELAY, OURS, Standing.RELAY)
    told.observed.saw(stranger(), ANOTHER, SIX, Standing.RELAY)
    told.peer(1, OTHER_PORT)
    assert told.published(OURS, SIX)
    told.peer(2, OTHER_PORT)
    assert told.published(SIX), "two networks say otherwise: who knows?"
    told.observed.close()


@pytest.mark.parametrize(
    "address", [Address("host.example", 1), Address("0.0.0.0", 1), Address("224.0.0.1", 1)]
)
async def test_what_nobody_can_dial_is_not_counted(told: Told, address: Address) -> None:
    told.observed.saw(stranger(), RELAY, address, Standing.RELAY)
    told.observed.saw(stranger(), RELAY, Address("11.0.0.1", 0), Standing.RELAY)
    told.observed.saw(stranger(), RELAY, Address("127.0.0.1", 7000), Standing.RELAY)
    assert told.observed.observations() == []
    told.observed.close()


async def test_what_an_observer_saw_last_counts_and_what_is_old_does_not() -> None:
    told = Told(observed_s=0.1)
    relay = stranger()
    told.observed.saw(relay, RELAY, OURS, Standing.RELAY)
    told.observed.saw(relay, RELAY, OTHER_PORT, Standing.RELAY)
    assert told.published(OTHER_PORT)
    told.linked.add(relay)
    await asyncio.sleep(0.2)
    assert told.published(OTHER_PORT), "the link keeps the mapping"
    told.linked.clear()
    await eventually(told.published)
    assert told.observed.observations() == []


async def test_another_network_has_other_addresses(told: Told) -> None:
    told.observed.saw(stranger(), RELAY, OURS, Standing.RELAY)
    told.observed.forget()
    assert told.published()
    assert told.observed.candidates() == ()
    told.observed.close()


async def test_a_crowd_of_observers_is_bounded_and_leaves_our_relay_its_place() -> None:
    told = Told(observers=8)
    told.observed.saw(stranger(), RELAY, OURS, Standing.RELAY)
    for number in range(1, 200):
        told.peer(number, OURS)
    assert len(told.observed.observations()) == 8
    assert told.observed.observations()[0].own
    assert told.times == 1
    told.observed.close()


async def test_strangers_of_the_dht_do_not_outvote_a_relay_of_ours(told: Told) -> None:
    """Two of them, who are had for nothing, would take our address out of the record."""
    told.observed.saw(stranger(), RELAY, OURS, Standing.RELAY)
    for number in range(1, 20):
        told.peer(number, OTHER_PORT, standing=Standing.STRANGER)
        told.peer(100 + number, VICTIM, standing=Standing.STRANGER)
    assert told.published(OURS)
    assert told.times == 1, "and nothing is published anew"
    told.observed.close()


async def test_strangers_are_heard_where_no_relay_of_ours_speaks(told: Told) -> None:
    told.observed.saw(stranger(), ANOTHER, SIX, Standing.RELAY)
    told.observed.saw(stranger(), RELAY, Address("192.168.1.7", 7000), Standing.RELAY)
    for number in (1, 2):
        told.peer(number, OURS, standing=Standing.STRANGER)
    assert OURS in told.addresses, "a relay on the LAN, or over IPv6, cannot know"
    told.observed.close()


async def test_strangers_do_not_say_that_a_host_is_ours(told: Told) -> None:
    """Who colludes with two of them would have us dial the private addresses in its record."""
    for number in range(1, 20):
        told.peer(number, VICTIM, standing=Standing.STRANGER)
    assert told.observed.hosts() == frozenset()
    for number in (1, 2):
        told.peer(number, OURS)
    assert told.observed.hosts() == {OURS.host}
    told.observed.close()


async def test_our_relay_that_serves_the_dht_too_is_still_our_relay(told: Told) -> None:
    relay = stranger()
    told.observed.saw(relay, RELAY, OURS, Standing.RELAY)
    told.observed.saw(relay, RELAY, OURS, Standing.STRANGER)
    assert told.published(OURS)
    told.observed.close()


async def test_a_crowd_of_strangers_leaves_acquaintances_their_place() -> None:
    told = Told(observers=8)
    known = {told.peer(1, OURS), told.peer(2, OURS)}
    for number in range(3, 200):
        told.peer(number, OTHER_PORT, standing=Standing.STRANGER)
    assert known <= {each.observer for each in told.observed.observations()}
    told.observed.close()


# --- in a node


async def test_strangers_have_no_say(nodes: FakeNodes) -> None:
    a, known, unknown = await nodes(), await nodes(), await nodes()
    a.knows(known.engine)
    for each in (known, unknown):
        each.meets(a)
        assert await each.delivery.dialer.reach(a.engine.key, 5.0)
    await eventually(lambda: a.delivery.observed.observations())
    await asyncio.sleep(0.05)
    assert {each.observer for each in a.delivery.observed.observations()} == {known.engine.key}


async def test_our_relay_tells_us_when_our_address_changes(
    nodes: FakeNodes, relays: Relays
) -> None:
    """The NAT's mapping is another one: the record and the next meeting must say so at once."""
    relay = await relays()
    nat = Nat(relay.listen)
    try:
        engine = FakeEngine()
        engine.relays = (str(RelayAddress(nat.address, relay.device)),)
        a = await nodes(engine=engine)
        before = Address("127.0.0.1", nat.port)
        await eventually(lambda: before in a.delivery.observed.candidates())
        nat.rebind()
        after = Address("127.0.0.1", nat.port)
        await eventually(lambda: a.delivery.observed.candidates() == (after,))
    finally:
        nat.close()


async def test_what_is_agreed_on_stands_in_our_record(nodes: FakeNodes) -> None:
    a = await nodes()
    a.delivery.observed.saw(stranger(), RELAY, OURS, Standing.RELAY)
    found = {each.address: each.kind for each in a.delivery.whereabouts.addresses()}
    assert found[OURS] is AddressKind.PUNCHED
    assert found[a.address] is AddressKind.LAN
    a.delivery.network_changed()
    assert OURS not in {each.address for each in a.delivery.whereabouts.addresses()}
