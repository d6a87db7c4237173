"""A run of a few engines on the models, all of it drawn from one seed: prints its digest.

python -m tests.simulation.seeded_run SEED
"""

from __future__ import annotations

import hashlib
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from node.engine import commands as c
from node.engine import delivery_commands as d
from schemas.addresses import Address, AddressKind, EndpointAddress
from schemas.ids import GroupId
from schemas.parcels import Parcel
from simulation import model_envelope
from simulation.model_mls import library
from tests.node.engine.world import Person, World


@dataclass
class Recorded(World):
    """Hashes what goes from one to another, byte by byte, and what came of it."""

    digest: hashlib._Hash = field(default_factory=hashlib.sha256)

    def person(self, name: str) -> Person:
        person = super().person(name)
        _without_waiting_for_the_disk(person)
        return person

    def hand(self, sender: Person, recipient: Person, parcels: list[Parcel]) -> None:
        super().hand(sender, recipient, parcels)
        verdicts = self.verdicts[-len(parcels) :]
        self.digest.update(repr((self.now, parcels, verdicts)).encode())


def run(seed: int, folder: Path) -> str:
    draw = Random(seed)
    world = Recorded(
        folder, mls=library(draw.randbytes), random=draw.randbytes, seal=model_envelope.seal
    )
    people = world.friends("ada", "bob", "cy", "dan", "eve")
    ada, bob, cy, dan, eve = people
    groups = [world.tea(people[:4]), world.tea([bob, ada, cy, eve])]
    world.link(*people)
    _talk(world, people, groups, draw)
    here = EndpointAddress(Address("192.0.2.1", 7000), AddressKind.LAN)
    for person in people[:4]:  # everybody links to all: who hears of it first must not vary
        person.ask(d.SetEndpoint((here,)))
    world.deliver = lambda sender, recipient: (sender in (ada, bob)) == (recipient in (ada, bob))
    for person in (ada, cy):
        person.ask(c.UpdateKey(groups[0]))
        person.send(groups[0], f"on {person.name}'s side")
    world.settle(30)
    world.deliver = lambda sender, recipient: True
    world.settle(30)
    _restart(people)
    for person in (ada, bob, cy):
        for group in groups:
            person.send(group, "while nobody has a link")
    world.settle()
    _restart(people)  # each owes receipts to several authors
    world.settle(60)
    dan.ask(c.Leave(groups[0]))
    eve.ask(c.Leave(groups[1]))
    world.settle(120)
    _talk(world, [ada, bob, cy], groups, draw)
    for person in people:
        world.digest.update(repr((person.name, person.events, person.read())).encode())
        world.digest.update(repr(person.ask(c.ListGroups())).encode())
    return world.digest.hexdigest()


def _restart(people: list[Person]) -> None:
    for person in people:
        person.restart()
        _without_waiting_for_the_disk(person)


def _without_waiting_for_the_disk(person: Person) -> None:
    person.database.pragma("synchronous", "off")


def _talk(world: World, people: list[Person], groups: list[GroupId], draw: Random) -> None:
    for number in range(12):
        person, group = draw.choice(people), draw.choice(groups)
        if group in {view.group for view in person.ask(c.ListGroups())}:
            person.send(group, f"{number} of {person.name}")
        if number % 3 == 0:
            world.settle(1)
    world.settle(5)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        print(run(int(sys.argv[1]), Path(place)))
