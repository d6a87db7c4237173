"""Delivery tokens: who has which, what revokes them, and when a mailbox takes nothing without."""

from __future__ import annotations

import dataclasses

import mls_rs

from identity.bundle import sign_bundle
from identity.delivery_token import token_hash
from node.engine import commands as c
from node.engine import delivery_commands as d
from node.engine import values as v
from node.engine.delivery_tokens import DELIVERY_SECRET, PATIENCE_S
from schemas.ids import GroupId
from schemas.records import BundleCore
from tests.node.engine.world import Person, World


def shown(bringer: Person, to: Person) -> set[bytes]:
    """What the bringer can show at the recipient's mailbox, as the relay hashes it."""
    return {token_hash(each) for each in bringer.ask(d.LookUpPeer(to.device)).tokens}


def taken(person: Person) -> set[bytes]:
    return set(person.ask(d.OwnDeliveryTokens()).hashes)


def opens(bringer: Person, to: Person) -> bool:
    return bool(shown(bringer, to) & taken(to))


def own_token(bringer: Person, to: Person) -> bytes:
    """The one that the recipient gave to this contact alone."""
    token = bringer.engine._core.people.delivery_token(to.identity)
    assert token, "none came"
    return token_hash(token)


def tea(world: World, maker: Person, *others: Person) -> GroupId:
    group = maker.create("tea", mls_rs.CLASSIC, *others)
    world.settle()
    for person in others:
        person.ask(c.Join(group))
    world.settle()
    return group


def direct(world: World, maker: Person, other: Person) -> None:
    package = other.key_package(mls_rs.CLASSIC)
    group = maker.ask(c.CreateDirect(other.identity, mls_rs.CLASSIC, (package,))).group
    world.settle()
    other.ask(c.Join(group))
    world.settle()


def outdated(world: World, reader: Person, of: Person) -> None:
    """The reader holds a bundle as an older version makes it."""
    signed, _ = of.ask(d.OwnRecords())
    core = BundleCore.decode(signed.payload)
    old = dataclasses.replace(core, number=core.number + 1, brings_tokens=False)
    reader.ask(d.ReceiveBundle(sign_bundle(of.engine.identity, old)))


def test_whoever_has_the_card_brings_the_first_parcel(world: World) -> None:
    ada, bob, mal = world.person("ada"), world.person("bob"), world.person("mal")
    ada.knows(bob)
    assert opens(ada, bob)
    assert not opens(mal, bob)
    assert not opens(bob, ada), "bob was not given ada's card"


def test_members_who_are_no_contacts_open_each_others_mailboxes(world: World) -> None:
    ada, bob, cy, mal = (world.person(name) for name in ("ada", "bob", "cy", "mal"))
    ada.knows(bob, cy)
    tea(world, ada, bob, cy)
    for one in (ada, bob, cy):
        for other in (ada, bob, cy):
            assert one is other or opens(one, other), f"{one.name} to {other.name}"
    assert not opens(mal, bob)
    tokens = [shown(bob, cy), shown(bob, ada)]
    assert not tokens[0] & tokens[1], "two mailboxes never have a token in common"


def test_a_contact_gets_one_of_its_own_and_blocking_revokes_that_alone(world: World) -> None:
    ada, bob, mal = world.friends("ada", "bob", "mal")
    for friend in (ada, mal):
        direct(world, bob, friend)
    kept, lost = own_token(ada, bob), own_token(mal, bob)
    assert kept != lost
    assert {kept, lost} <= taken(bob)
    before = shown(mal, bob)
    bob.ask(c.Block(mal.identity))
    after = taken(bob)
    assert kept in after
    assert lost not in after
    assert not before & after, "neither the card's, nor that of what they talk by"
    assert opens(ada, bob)


def test_relays_are_told_at_once_and_after_a_restart_the_same(world: World) -> None:
    ada, bob = world.friends("ada", "bob")
    tea(world, ada, bob)
    held = taken(ada)
    result = ada.engine.run([c.Block(bob.identity)], world.now)
    assert v.TokensChanged() in result.effects
    after = taken(ada)
    assert after != held
    ada.restart()
    result = ada.engine.run([c.ListContacts()], world.now)
    assert v.TokensChanged() in result.effects, "a relay that was away hears of it"
    assert taken(ada) == after
    assert v.TokensChanged() not in ada.engine.run([c.ListContacts()], world.now).effects


def test_a_mailbox_is_closed_only_when_all_who_may_bring_know_of_tokens(world: World) -> None:
    """Or an update would shut out everybody who did not update yet."""
    ada, bob, cy = world.friends("ada", "bob", "cy")
    tea(world, ada, bob, cy)
    assert not ada.ask(d.OwnDeliveryTokens()).optional
    outdated(world, ada, bob)
    assert ada.ask(d.OwnDeliveryTokens()).optional, "bob cannot show any"
    world.now += PATIENCE_S + 1
    ada.ask(c.ListContacts())  # a leap of the clock is not believed at once
    world.now += 2 * 3600
    assert not ada.ask(d.OwnDeliveryTokens()).optional, "a month is enough"


def test_a_home_of_an_older_version_tells_everybody_that_it_knows_now(world: World) -> None:
    ada, bob = world.friends("ada", "bob")
    tea(world, ada, bob)
    core = bob.engine._core
    with bob.engine._db.transaction():
        signed, bundle = core.people.bundle(bob.identity) or (None, None)
        assert bundle is not None
        old = dataclasses.replace(bundle, number=bundle.number + 1, brings_tokens=False)
        core.people.put_bundle(sign_bundle(bob.engine.identity, old), old)
        bob.engine._db.run("DELETE FROM secrets WHERE name = ?", DELIVERY_SECRET)
        bob.engine._db.run("UPDATE contacts SET told = 0")
    before = own_token(ada, bob)
    ada.ask(d.ReceiveBundle(bob.ask(d.OwnRecords())[0]))
    assert ada.ask(d.OwnDeliveryTokens()).optional
    bob.restart()
    world.settle(60)
    assert not ada.ask(d.OwnDeliveryTokens()).optional
    assert own_token(ada, bob) != before, "the new secret's"
    assert opens(ada, bob)


def test_what_was_refused_goes_again_when_a_new_token_comes(world: World) -> None:
    ada, bob, mal = world.friends("ada", "bob", "mal")
    group = tea(world, bob, ada)
    ada.send(group, "hello")
    (parcel,) = world.take(ada, bob)
    ada.ask(
        d.ReportOutcomes(
            (d.Outcome(parcel.id, reason="delivery-token-refused", retry_after_s=600.0),)
        )
    )
    assert world.take(ada, bob) == []
    core = bob.engine._core
    with bob.engine._db.transaction():
        core.people.set_secret(DELIVERY_SECRET, b"n" * 32)
    bob.ask(c.Block(mal.identity))  # a new private part for all the others
    world.hand(bob, ada, world.take(bob, ada))
    assert [again.id for again in world.take(ada, bob)] == [parcel.id]
