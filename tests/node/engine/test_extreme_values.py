"""Whatever number a member, a peer or a relay says: honest people write, read and go on.

The fields are read off the schemas, so that a new one is attacked without anybody's doing.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from node.api import convert
from node.engine import commands as c
from node.engine import delivery_commands as d
from node.engine import values as v
from node.engine.arrivals import SEEN_S
from node.engine.conversation import LAMPORT_STEP
from node.engine.outbox import MESSAGE_LIFETIME_S
from node.store.damage import mend
from schemas import limits, messages
from schemas.ids import GroupId
from schemas.times import LAST_S
from tests.node.engine.carriers import (
    CARRIERS,
    NUMBERS,
    WITHIN,
    K,
    Path_,
    Scene,
    integers,
    message,
    patched,
    values_of,
)
from tests.node.engine.world import Person, World


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, GroupId, float]:
    world = World(tmp_path_factory.mktemp("extreme"))
    ada, bob, mallory = world.friends("ada", "bob", "mallory")
    group = ada.create("tea", K, bob, mallory)
    world.settle()
    bob.ask(c.Join(group))
    mallory.ask(c.Join(group))
    world.settle(2)
    for person in world.people:
        person.database.close()
    assert world.folder is not None
    return world.folder, group, world.now


@pytest.fixture
def scene(folder: tuple[Path, GroupId, float], tmp_path: Path) -> Iterator[Scene]:
    home, group, now = folder
    shutil.copytree(home, tmp_path / "homes")
    world = World(tmp_path / "homes", now)
    ada, bob, mallory = (world.person(name) for name in ("ada", "bob", "mallory"))
    scene = Scene(world, ada, bob, mallory, group)
    yield scene
    for person in world.people:
        person.database.close()


# --- what must go on


def goes_on(scene: Scene) -> None:
    write_and_read(scene, "before")
    for person in scene.honest:
        epoch = scene.ada.view(scene.group).epoch
        person.ask(c.UpdateKey(scene.group))
        scene.world.settle()
        assert {p.view(scene.group).epoch for p in scene.honest} == {epoch + 1}
    for person in scene.honest:
        person.restart()
    write_and_read(scene, "after")
    for person in scene.honest:
        person.engine._key_updates._next_look = 0.0
        person.ask(c.Tick())
        core = person.engine._core
        assert core.groups.key_update(scene.group)[1] is not None, "no key update is drawn"
        assert mend(core.db) == {}


def write_and_read(scene: Scene, word: str) -> None:
    for writer, reader in (scene.honest, scene.honest[::-1]):
        reader.read()
        message = writer.send(scene.group, word)
        scene.world.settle(2)
        assert word in reader.read(), scene.world.verdicts
        scene.world.settle(61)
        assert writer.states(message)[reader.name] in ("delivered", "read")
    for person in scene.honest:
        show(person, scene.group)


def show(person: Person, group: GroupId) -> None:
    """All that users are shown can be shown."""
    for found in (c.ReadMessages("script"), c.ReadHistory(group, 0, 200)):
        for view in person.ask(found):
            convert.message(view)
            if view.own:
                for entry in person.ask(c.ReadLedger(view.message.hex())):
                    convert.ledger_row(entry)
                for why in person.ask(c.Why(view.message.hex())):
                    convert.why_row(why)
    for shown in person.ask(c.ListGroups()):
        convert.group(shown)
    for contact in person.ask(c.ListContacts()):
        convert.contact(contact)
        for device in contact.devices:
            person.ask(d.LookUpPeer(device))
    for request in person.ask(c.ListRequests()):
        convert.invitation(request)


FIELDS = [
    pytest.param(name, path, kind, id=".".join([name, *map(str, path)]))
    for name, (struct, _) in CARRIERS.items()
    for path, kind in integers(struct.schema)
    if path[:1] == WITHIN.get(name, path[:1])
]


@pytest.mark.parametrize("name, path, kind", FIELDS)
def test_no_number_of_a_schema_stops_anybody(
    scene: Scene, name: str, path: Path_, kind: str
) -> None:
    struct, carry = CARRIERS[name]
    for value in values_of(kind):
        carry(scene, functools.partial(patched, struct, path, value))
    goes_on(scene)


@pytest.mark.parametrize("name", NUMBERS)
def test_no_other_number_stops_anybody(scene: Scene, name: str) -> None:
    kind, say = NUMBERS[name]
    for value in values_of(kind):
        say(scene, value)
    goes_on(scene)


def test_no_lifetime_of_a_key_package_stops_those_who_join_after_it(scene: Scene) -> None:
    """MLS keeps it in the tree that newcomers check."""
    client = scene.mallory.engine._core.mls
    for begin, lasts in itertools.product((0, 1, int(scene.world.now), 2**63, 2**64 - 1), repeat=2):
        try:
            package = client.key_package(K, now=begin, lifetime_s=lasts).message
        except ValueError:
            continue  # it would end after all numbers
        scene.group = scene.ada.create("pie", K)
        scene.ada.run(c.Invite(scene.group, (scene.mallory.identity,), (package,), False))
        scene.ada.invite(scene.group, scene.bob)
        scene.world.settle()
        scene.bob.ask(c.Join(scene.group))
        scene.world.settle(2)
        write_and_read(scene, "pie")
    goes_on(scene)


@pytest.mark.parametrize("name", CARRIERS)
def test_what_carries_the_numbers_is_accepted_as_it_is(scene: Scene, name: str) -> None:
    """Else the tests above would prove nothing."""
    carry = CARRIERS[name][1]
    carry(scene, lambda data: data)
    assert {*scene.verdicts, *(verdict for _, _, verdict in scene.world.verdicts)} <= {v.Accepted()}
    assert {field.values[0] for field in FIELDS} == CARRIERS.keys()


def test_one_message_moves_the_clock_a_step_and_key_updates_are_drawn(scene: Scene) -> None:
    before = scene.ada.engine._core.group(scene.group).lamport
    last = functools.partial(patched, messages._message.AppMessage, ("lamport",), limits.COUNTER)
    message(scene, last)
    assert scene.ada.engine._core.group(scene.group).lamport == before + LAMPORT_STEP
    goes_on(scene)


def test_a_group_that_was_silenced_before_speaks_again(scene: Scene) -> None:
    """Its clock stood at the end, or past it, and its own messages were dropped as damaged."""
    for person, lamport in zip(scene.honest, (limits.COUNTER, limits.COUNTER + 1), strict=True):
        person.send(scene.group, "unheard")
        db = person.engine._core.db
        with db.transaction():
            for table in ("groups", "messages"):
                db.run(f"UPDATE {table} SET lamport = ?", lamport)
            db.run("UPDATE key_updates SET lamport = ?, due = NULL", lamport)
        mend(db)
        assert db.value("SELECT count(*) FROM messages WHERE own") == 1
        assert db.value("SELECT max(lamport) FROM messages") == limits.COUNTER
        person.restart()
    goes_on(scene)


def test_a_time_beyond_all_dates_is_refused_and_one_that_is_stored_is_shown(scene: Scene) -> None:
    late = functools.partial(
        patched, messages._message.AppMessage, ("sentAtMs",), LAST_S * 1000 + 1000
    )
    message(scene, late)
    assert v.Rejected("malformed-message") in [verdict for _, _, verdict in scene.world.verdicts]
    message(scene, lambda plain: plain)
    db = scene.ada.engine._core.db
    for sent_ms in (limits.COUNTER, -limits.COUNTER, LAST_S * 1000):
        with db.transaction():
            db.run("UPDATE messages SET sent_ms = ?", sent_ms)
        show(scene.ada, scene.group)
    assert mend(db) == {}


def test_a_sender_cannot_have_a_parcel_remembered_for_ever(scene: Scene) -> None:
    scene.mallory.send(scene.group, "listen")
    (parcel,) = scene.world.take(scene.mallory, scene.ada)
    scene.arrive(scene.ada, dataclasses.replace(parcel, expires=limits.COUNTER))
    core = scene.ada.engine._core
    until = core.db.value("SELECT max(until) FROM seen_parcels")
    assert MESSAGE_LIFETIME_S < until - scene.world.now <= SEEN_S
