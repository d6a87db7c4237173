"""Whom we are brought together with, and who is asked to: those who know already."""

from __future__ import annotations

import mls_rs

from node.engine import commands as c
from node.engine import delivery_commands as d
from tests.node.engine.world import Person, World

K = mls_rs.CLASSIC


def asked(person: Person, other: Person, *, has_relay: bool = True) -> set[str]:
    """Whom `person` asks to bring it together with `other`."""
    devices = person.ask(d.Introducers(other.device, has_relay))
    return {found.name for found in map(person.world.by_device, devices) if found is not None}


def test_contacts_and_fellow_members_are_met_and_strangers_are_not(world: World) -> None:
    ada, bob = world.friends("ada", "bob")
    carl, mal = world.person("carl"), world.person("mal")
    assert ada.ask(d.Acquainted(bob.device))
    assert not ada.ask(d.Acquainted(mal.device))
    group = ada.create("tea", K, bob)
    world.settle()
    bob.ask(c.Join(group))
    world.settle()
    assert not ada.ask(d.Acquainted(carl.device))
    ada.knows(carl)
    ada.invite(group, carl)
    world.settle(90)
    assert bob.ask(d.Acquainted(carl.device))
    assert not carl.ask(d.Acquainted(ada.device)), "an invitation is not yet an acquaintance"
    carl.ask(c.Join(group))
    assert carl.ask(d.Acquainted(ada.device))


def test_blocked_people_are_not_met(world: World) -> None:
    ada, bob, mal = people = world.friends("ada", "bob", "mal")
    world.tea(people)
    ada.ask(c.Block(mal.identity))
    assert not ada.ask(d.Acquainted(mal.device)), "not even as a fellow member"
    world.link(ada, bob, mal)
    assert asked(ada, bob) == set(), "nor asked"


def test_fellow_members_are_asked_and_other_contacts_only_without_a_relay(world: World) -> None:
    """Who is asked learns whom we look for; a group's members know that we both are in it."""
    ada, bob, carl, dora = world.friends("ada", "bob", "carl", "dora")
    world.tea([ada, bob, carl])
    assert asked(ada, bob) == set(), "nobody is linked"
    world.link(ada, bob, carl, dora)
    assert asked(ada, bob) == {"carl"}
    assert asked(ada, bob, has_relay=False) == {"carl", "dora"}
    assert asked(ada, dora) == set()
