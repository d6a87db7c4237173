"""What contacts recognise each other by on the LAN."""

from __future__ import annotations

import mls_rs

from node.engine import commands as c
from node.engine import delivery_commands as d
from node.engine import values as v
from tests.node.engine.world import World

K = mls_rs.CLASSIC


def test_contacts_hold_what_recognises_us_and_nobody_else_does(world: World) -> None:
    ada, bob = world.friends("ada", "bob")
    eve = world.person("eve")
    ours = ada.ask(d.ReadDiscoverySecrets())
    theirs = bob.ask(d.ReadDiscoverySecrets())
    assert ours.contacts == ((bob.device, "bob", theirs.own),)
    assert theirs.contacts == ((ada.device, "ada", ours.own),)
    assert ours.own != theirs.own
    assert eve.ask(d.ReadDiscoverySecrets()).contacts == ()
    assert theirs.own.hex() not in repr(ours)
    assert repr(theirs.own) not in repr(ours)


def test_a_new_contact_is_told_to_delivery(world: World) -> None:
    """Else the LAN would show them after the next start."""
    ada, bob = world.person("ada"), world.person("bob")
    card = bob.ask(c.WhoAmI()).card
    effects = ada.engine.run((c.AddContact(card),), world.now).effects
    assert v.ContactsChanged() in effects


def test_who_is_blocked_is_not_looked_for(world: World) -> None:
    ada, mal = world.friends("ada", "mal")
    ada.ask(c.Block(mal.identity))
    assert ada.ask(d.ReadDiscoverySecrets()).contacts == ()
