"""Our own bundle: changes reach everybody, old ones never win, and hybrid keys are rotated."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import mls_rs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from identity.bundle import sign_bundle
from identity.signing import sign
from node.engine import commands as c
from node.engine import delivery_commands as d
from node.engine import relay_commands as r
from node.engine import values as v
from node.engine.own_bundle import HYBRID_KEPT_S, HYBRID_KEY_S
from schemas.addresses import Address, AddressKind, EndpointAddress
from schemas.card import Card
from schemas.ids import ParcelId
from schemas.parcels import BundlesContent, Parcel, ParcelBody
from schemas.records import BundleCore, BundlePrivate, SignedType
from tests.node.engine.test_hostile import resealed, verdict
from tests.node.engine.world import Person, World

RELAY = "198.51.100.7:7000#" + "ab" * 32
OTHER = "198.51.100.8:7000#" + "cd" * 32


def bundle(person: Person) -> BundleCore:
    return BundleCore.decode(person.ask(d.OwnRecords())[0].payload)


def relays_known(reader: Person, of: Person) -> tuple[str, ...]:
    return reader.ask(d.LookUpPeer(of.device)).relays


def private_bytes(person: Person) -> list[bytes]:
    return [keys.private for keys in person.engine._core.hybrid_keys]


def on_disk(person: Person, secret: bytes) -> bool:
    files = (person.path, person.path.with_name(person.path.name + "-wal"))
    return any(secret in file.read_bytes() for file in files if file.exists())


def test_new_name_and_relays_reach_contacts_and_members(world: World) -> None:
    ada, bob, cy = world.person("ada"), world.person("bob"), world.person("cy")
    ada.knows(bob, cy)
    bob.knows(ada)
    group = ada.create("tea", mls_rs.CLASSIC, bob, cy)
    world.settle()
    for person in (bob, cy):
        person.ask(c.Join(group))
    bob.ask(c.SetName("Bobby"))
    bob.ask(r.SetRelays((RELAY,)))
    world.settle()
    assert relays_known(ada, bob) == (RELAY,)
    assert relays_known(cy, bob) == (RELAY,)  # not a contact: a fellow member
    assert {m.name for m in cy.view(group).members} == {"ada", "Bobby", "cy"}
    assert bundle(bob).number == 3


def test_who_was_away_gets_the_newest_and_only_that(world: World) -> None:
    ada, bob = world.friends("ada", "bob")
    for relay in (RELAY, OTHER):
        bob.ask(r.SetRelays((relay,)))
    (parcel,) = world.take(bob, ada)
    world.hand(bob, ada, [parcel])
    assert relays_known(ada, bob) == (OTHER,)


def test_what_a_relay_holds_is_handed_to_the_new_relay(world: World) -> None:
    ada, bob = world.friends("ada", "bob")
    group = ada.create("tea", mls_rs.CLASSIC, bob)
    world.settle()
    bob.ask(c.Join(group))
    world.settle(2)
    ada.send(group, "hello")
    (parcel,) = world.take(ada, bob)
    held = d.Outcome(parcel.id, held=(RELAY, int(world.now) + 7 * 86_400))
    ada.ask(d.ReportOutcomes((held,)))
    assert world.take(ada, bob) == []
    bob.ask(r.SetRelays((OTHER,)))
    world.hand(bob, ada, world.take(bob, ada))
    assert [again.id for again in world.take(ada, bob)] == [parcel.id]


def test_new_addresses_reach_linked_devices_at_once(world: World) -> None:
    ada, bob, cy = world.friends("ada", "bob", "cy")
    world.link(ada, bob)
    address = EndpointAddress(Address("192.0.2.1", 7000), AddressKind.LAN)
    signed = bob.ask(d.SetEndpoint((address,)))
    world.settle()
    assert ada.ask(d.LookUpPeer(bob.device)).endpoint == signed.encode()
    assert cy.ask(d.LookUpPeer(bob.device)).endpoint is None  # asks when they meet


def test_endpoint_made_by_a_clock_that_was_ahead_is_replaced(world: World) -> None:
    ada, _ = world.friends("ada", "bob")
    address = EndpointAddress(Address("192.0.2.1", 7000), AddressKind.LAN)
    world.now += 400 * 86_400
    wrong = ada.ask(d.SetEndpoint((address,)))
    world.now -= 400 * 86_400
    assert ada.ask(d.SetEndpoint((address,))) != wrong


def test_private_part_is_for_contacts_and_cannot_be_forged_or_rolled_back(world: World) -> None:
    ada, bob, mal = world.friends("ada", "bob", "mal")
    first = ada.engine._core.people.discovery_secret(bob.identity)
    bob.ask(c.Block(mal.identity))  # rotates the secret that mal knows
    world.settle()
    held = ada.engine._core.people.discovery_secret(bob.identity)
    assert held == bob.engine._core.people.secret("discovery_secret")
    assert held != first
    assert mal.engine._core.people.discovery_secret(bob.identity) == first

    def hand_in(person: Person, private: BundlePrivate) -> v.Verdict:
        signed = sign(SignedType.BUNDLE_PRIVATE, person.engine.identity, private.encode())
        body = ParcelBody(ParcelId(b"p" * 16), BundlesContent((), (), signed))
        parcel = dataclasses.replace(_parcel(world, ada), id=body.parcel)
        return verdict(ada, resealed(ada, parcel, body))

    evil = BundlePrivate(bob.identity, 99, ada.identity, b"e" * 32, b"")
    assert isinstance(hand_in(mal, evil), v.Rejected)
    other_reader = dataclasses.replace(evil, reader=mal.identity)
    assert isinstance(hand_in(bob, other_reader), v.Rejected)
    hand_in(bob, dataclasses.replace(evil, number=1))
    assert ada.engine._core.people.discovery_secret(bob.identity) == held


def _parcel(world: World, person: Person) -> Parcel:
    return Parcel(ParcelId(b"p" * 16), person.device, int(world.now) + 999, b"")


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.integers(1, 12), min_size=1, max_size=20))
def test_newest_bundle_wins_in_whatever_order_they_come(
    tmp_path_factory: pytest.TempPathFactory, numbers: list[int]
) -> None:
    world = World(Path(tmp_path_factory.mktemp("w")))
    ada, bob = world.friends("ada", "bob")
    base = bundle(bob)
    highest = 1
    for number in numbers:
        new = dataclasses.replace(base, number=number, name=f"bob {number}")
        signed = sign_bundle(bob.engine.identity, new)
        ada.ask(d.ReceiveBundle(signed))
        highest = max(highest, number)
        assert ada.ask(d.KnownNumber(bob.identity)) == highest
        expected = "bob" if highest == 1 else f"bob {highest}"
        assert ada.ask(d.LookUpPeer(bob.device)).name == expected
    for person in world.people:
        person.database.close()


def test_hybrid_key_is_rotated_and_the_old_one_opens_until_it_is_deleted(world: World) -> None:
    ada, bob = world.friends("ada", "bob")
    group = ada.create("tea", mls_rs.CLASSIC, bob)
    world.settle()
    bob.ask(c.Join(group))
    ada.send(group, "sealed to the old key")
    (early,) = world.take(ada, bob)
    ada.send(group, "too late")
    late = next(parcel for parcel in world.take(ada, bob) if parcel.id != early.id)
    (old,) = private_bytes(bob)
    before = bundle(bob)
    assert on_disk(bob, old)

    world.later(HYBRID_KEY_S)
    after = bundle(bob)
    assert after.number == before.number + 1
    assert after.devices[0].hybrid_key != before.devices[0].hybrid_key
    world.settle()
    assert ada.engine._core.people.hybrid_key(bob.device) == after.devices[0].hybrid_key
    assert verdict(bob, early) == v.Accepted()
    assert bob.read() == ["sealed to the old key"]

    world.later(HYBRID_KEPT_S)
    assert old not in private_bytes(bob)
    assert verdict(bob, late) == v.Rejected("cannot-open", garbage=True)
    assert not on_disk(bob, old)
    assert on_disk(bob, private_bytes(bob)[0])  # what this test looks for can be found


def test_clock_that_was_ahead_does_not_stop_the_rotation(world: World) -> None:
    ada, _ = world.friends("ada", "bob")
    world.later(400 * 86_400)
    world.now -= 400 * 86_400
    ada.ask(c.Tick())
    current = private_bytes(ada)[0]
    world.later(HYBRID_KEY_S)
    assert private_bytes(ada)[0] != current


def test_a_card_has_no_address_that_a_nat_will_have_forgotten(world: World) -> None:
    """Whoever dialled it, weeks later and before we dial, would knock at somebody else's door."""
    ada = world.person("ada")
    lan = EndpointAddress(Address("192.168.1.7", 7000), AddressKind.LAN)
    punched = EndpointAddress(Address("11.0.0.1", 7000), AddressKind.PUNCHED)
    ada.ask(d.SetEndpoint((punched, lan)))
    assert Card.parse(ada.ask(c.WhoAmI()).card).addresses == (lan.address,)
