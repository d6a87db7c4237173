"""What the engine has for the DHT: our own values, contacts' cells, and where to begin."""

from __future__ import annotations

import pytest

from discovery.dht.contact import node_id
from discovery.dht.publication import open_private_untrusted
from node.engine import commands as c
from node.engine import delivery_commands as d
from schemas.addresses import Address, AddressKind, BootstrapAddress, EndpointAddress
from schemas.errors import Refused
from schemas.ids import DeviceKey
from schemas.path_policy import PathPolicy
from tests.node.engine.world import World

HERE = EndpointAddress(Address("203.0.113.9", 7000), AddressKind.PUBLIC)
DEVICE = DeviceKey(bytes(range(32)))


def test_who_holds_the_card_opens_what_we_publish_and_who_does_not_cannot(world: World) -> None:
    ada, bob, eve = (world.person(name) for name in ("ada", "bob", "eve"))
    bob.ask(c.AddContact(ada.ask(c.WhoAmI()).card))
    record = ada.ask(d.SetEndpoint((HERE,)))
    published = ada.ask(d.OwnPublications())[0]
    [cell] = [each for each in bob.ask(d.CellsOf(ada.device)) if each.id == published.key]
    assert open_private_untrusted(cell, ada.device, published.value, now=world.now) == record
    assert eve.ask(d.CellsOf(ada.device)) == ()


def test_nothing_is_published_while_our_address_is_hidden_from_anybody(world: World) -> None:
    """Every holder of our card reads all of what we publish."""
    ada, bob = world.person("ada"), world.person("bob")
    ada.ask(c.AddContact(bob.ask(c.WhoAmI()).card))
    ada.ask(d.SetEndpoint((HERE,)))
    ada.ask(c.SetPathPolicy(bob.identity, PathPolicy.RELAY_ONLY))
    assert ada.ask(d.OwnPublications()) == ()
    assert ada.ask(d.OwnPublications(public=True)) == ()
    ada.ask(c.SetPathPolicy(bob.identity, None))
    assert ada.ask(d.OwnPublications())


def test_who_shows_itself_to_all_is_found_in_private_by_who_holds_the_card(world: World) -> None:
    ada, bob = world.person("ada"), world.person("bob")
    bob.ask(c.AddContact(ada.ask(c.WhoAmI()).card))
    ada.ask(d.SetEndpoint((HERE,)))
    keys = {each.key for each in ada.ask(d.OwnPublications(public=True))}
    assert node_id(ada.device) in keys
    assert keys & {cell.id for cell in bob.ask(d.CellsOf(ada.device))}


def test_whom_we_block_does_not_find_us_any_more(world: World) -> None:
    """Blocking rotates the discovery secret; those who stay contacts get the new one."""
    ada, bob = world.person("ada"), world.person("bob")
    bob.ask(c.AddContact(ada.ask(c.WhoAmI()).card))
    ada.ask(c.AddContact(bob.ask(c.WhoAmI()).card))
    ada.ask(d.SetEndpoint((HERE,)))
    ada.ask(c.Block(bob.identity))
    keys = {each.key for each in ada.ask(d.OwnPublications())}
    assert keys.isdisjoint({cell.id for cell in bob.ask(d.CellsOf(ada.device))})
    assert ada.ask(d.CellsOf(bob.device)) == (), "nor are they looked for"


def test_where_to_begin_is_remembered(world: World) -> None:
    ada = world.person("ada")
    typed = ("dht.example.org:7001", f"[2001:db8::7]:7000#{DEVICE.hex()}")
    ada.ask(c.SetBootstrap(typed))
    ada.ask(d.KeepDhtContacts(((DEVICE, HERE.address),)))
    ada.ask(d.KeepDhtContacts(((DEVICE, HERE.address),)))
    start = ada.ask(d.DhtStart())
    assert start.bootstrap == tuple(BootstrapAddress.parse(text) for text in typed)
    assert start.contacts == ((DEVICE, HERE.address),)
    with pytest.raises(Refused) as caught:
        ada.ask(c.SetBootstrap(("nowhere#abc",)))
    assert caught.value.code == "bad-bootstrap"
