"""People who share a card and one address to begin with: found through the DHT, with no relay."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from node.api import operations as op
from node.api.client import Client
from node.api.network_shapes import DhtLookup
from node.api.network_shapes import Path as WayTo
from node.api.shapes import AddContact, Nothing
from node.demo.processes import Person, StepFailed
from node.home import create_home
from schemas.card import Card
from schemas.errors import Unreachable

FOUND_S = 20.0  # a node that just started has others dial it back, then publishes


class Cast:
    """Nodes of people without mDNS and without a relay, ended with the test."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._people: list[Person] = []

    def person(self, name: str) -> Person:
        """With a home, and not started."""
        person = Person(name, self._folder)
        create_home(person.home, name)
        self._people.append(person)
        return person

    def run(self, person: Person, *options: str) -> str:
        """Where it listens: another port each time."""
        person.start("--no-mdns", "--no-port-mapping", *options)
        assert person.node is not None
        return str(person.node.ready["listen"])

    def stop(self, person: Person) -> None:
        assert person.node is not None
        person.node.stop()
        person.node = None

    def kill(self, person: Person) -> None:
        assert person.node is not None
        person.node.kill()

    def end(self) -> None:
        for person in self._people:
            if person.node is not None:
                person.node.stop()


@pytest.fixture
def cast(tmp_path: Path) -> Iterator[Cast]:
    cast = Cast(tmp_path)
    yield cast
    cast.end()


def card_of(person: Person) -> str:
    """As given away before its node ever ran: it says no address."""
    me = person.ask("whoami")
    person.identity, person.device = me["identity"], me["device"]
    text = str(me["card"])
    card = Card.parse(text)
    assert (card.addresses, card.relay) == ((), None)
    return text


def exchange(one: Person, other: Person, cards: tuple[str, str]) -> None:
    for person, card in ((one, cards[1]), (other, cards[0])):
        Client(person.home).call(op.ADD_CONTACT, AddContact(card))


def found(seeker: Person, key: str, address: str, *, linked: bool = True) -> WayTo:
    """What a lookup says once it says `address`, and somebody is `linked` over it."""
    deadline = time.monotonic() + FOUND_S
    paths: list[WayTo] = []
    while time.monotonic() < deadline:
        try:
            paths = Client(seeker.home).call(op.DHT_LOOKUP, DhtLookup(key))
        except Unreachable:
            paths = []
        for path in paths:
            if path.address == address and path.in_use is linked:
                return path
        time.sleep(0.1)
    raise AssertionError(f"{address} is not among {paths}")


def not_found(seeker: Person, key: str) -> None:
    with pytest.raises(StepFailed, match="nothing of theirs was found in the DHT"):
        seeker.lines("dht", "lookup", key)


def says(sender: Person, recipient: Person, text: str) -> None:
    """A message that arrives straight."""
    words = ("send", "--peer-key", recipient.identity, "--msg", text, "--wait", "delivered")
    message = sender.ask(*words)["message"]
    (line,) = sender.lines("ledger", message)
    assert line["path"] == "direct"
    (read,) = recipient.lines("recv", "--timeout", "10", "--count", "1")
    assert (read["text"], read["path"]) == (text, "direct")


def test_two_who_share_a_card_and_an_address_to_begin_with_talk_and_no_stranger_finds_them(
    cast: Cast,
) -> None:
    cy, ada, bob, eve = (cast.person(name) for name in ("Cy", "Ada", "Bob", "Eve"))
    begin = ("--bootstrap", cast.run(cy))
    cards = card_of(ada), card_of(bob)
    cast.run(ada, *begin)
    cast.run(eve, *begin)
    where = cast.run(bob, *begin)
    exchange(ada, bob, cards)

    found(ada, bob.identity, where)
    (line,) = ada.lines("dht", "lookup", bob.identity)
    assert (line["address"], line["source"], line["device"]) == (where, "dht", bob.device)
    says(ada, bob, "found you")
    says(bob, ada, "and I you")
    for key in (bob.identity, bob.device):
        not_found(eve, key)

    cast.stop(bob)
    moved = cast.run(bob)  # whom to begin with is remembered
    assert moved != where
    found(ada, bob.identity, moved)
    says(ada, bob, "found you again")

    cast.stop(bob)
    public = cast.run(bob, "--dht-visibility", "public")
    found(eve, bob.device, public, linked=False)
    not_found(eve, bob.identity)


def test_a_node_begins_with_those_it_saw_last_when_the_first_is_gone(cast: Cast) -> None:
    cy, dan, ada, bob = (cast.person(name) for name in ("Cy", "Dan", "Ada", "Bob"))
    begin = ("--bootstrap", cast.run(cy))
    cards = card_of(ada), card_of(bob)
    for person in (dan, ada, bob):
        cast.run(person, *begin)
    exchange(ada, bob, cards)
    for person in (dan, ada, bob):
        knows(person, 3)
    cast.stop(ada)
    cast.stop(bob)
    cast.kill(cy)

    cast.run(ada)
    where = cast.run(bob)
    found(ada, bob.identity, where)
    says(ada, bob, "found you without Cy")


def knows(person: Person, contacts: int) -> None:
    """Waits until it has so many contacts in the DHT, and answers others."""
    deadline = time.monotonic() + FOUND_S
    while time.monotonic() < deadline:
        status = Client(person.home).call(op.DHT, Nothing())
        if status.contacts >= contacts and status.server:
            return
        time.sleep(0.1)
    raise AssertionError(f"{person.name} knows too few: {status}")
