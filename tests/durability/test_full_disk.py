"""A disk that takes no more: the batch is refused as a whole, nothing of it stays, and when there
is room again everything goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import apsw
import mls_rs
import pytest

from node.engine import commands as c
from node.engine import delivery_commands as d
from node.engine import values as v
from schemas.errors import Fault
from schemas.ids import GroupId
from schemas.parcels import Parcel
from tests.node.engine.world import Person, World

LONG = "x" * 60_000
SUITES = [mls_rs.HYBRID, mls_rs.CLASSIC]


class FailingDisk(apsw.VFS):
    """The operating system's file access, which fails on demand where a COMMIT writes."""

    def __init__(self) -> None:
        self.fail: type[Exception] | None = None
        super().__init__("failing-disk", "")

    def xOpen(self, name: Any, flags: Any) -> FailingFile:
        return FailingFile(self, name, flags)


class FailingFile(apsw.VFSFile):
    def __init__(self, disk: FailingDisk, name: Any, flags: Any) -> None:
        self._disk = disk
        super().__init__("", name, flags)

    def xWrite(self, data: Any, offset: int) -> None:
        if self._disk.fail is apsw.FullError:
            raise apsw.FullError
        super().xWrite(data, offset)

    def xSync(self, flags: int) -> None:
        if self._disk.fail is apsw.IOError:
            raise apsw.IOError
        super().xSync(flags)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[FailingDisk]:
    disk = FailingDisk()
    real = apsw.Connection
    monkeypatch.setattr(apsw, "Connection", partial(real, vfs="failing-disk"))
    yield disk
    disk.fail = None
    disk.unregister()


def everything(person: Person) -> dict[str, list[Any]]:
    """All rows of all tables, as they are now."""
    tables = [
        row[0]
        for row in person.database.execute(
            "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
        )
    ]
    return {
        name: sorted(person.database.execute(f"SELECT * FROM {name}"), key=repr) for name in tables
    }


def only_disk(answers: list[object], code: str) -> None:
    assert answers
    for answer in answers:
        assert isinstance(answer, Fault)
        assert answer.code == code


def no_room(person: Person) -> Callable[[], None]:
    """The database must not grow; answers how to give room again."""
    before = person.database.pragma("max_page_count")
    person.database.pragma("max_page_count", person.database.pragma("page_count"))
    return lambda: person.database.pragma("max_page_count", before) and None


@pytest.mark.parametrize("suite", SUITES)
def test_a_batch_that_finds_no_room_is_refused_as_a_whole(tmp_path: Path, suite: int) -> None:
    world = World(tmp_path)
    ada, bob, cy = world.friends("Ada", "Bob", "Cy")
    group = ada.create("harbour", suite, bob)
    world.settle()
    bob.ask(c.Join(group))
    ada.send(group, "before")
    world.settle()
    package = cy.key_package(suite)
    before, events = everything(ada), len(ada.events)

    room = no_room(ada)
    answers = ada.run(
        c.Send(group, "short"),
        c.Invite(group, (cy.identity,), (package,)),
        c.Send(group, LONG),
        c.WhoAmI(),
    )

    only_disk(answers, "disk-full")
    assert everything(ada) == before, "something of a refused batch stayed"
    assert len(ada.events) == events
    assert world.take(ada, bob) == [], "something of a refused batch would leave"

    room()
    ada.ask(c.Invite(group, (cy.identity,), (package,)))
    ada.send(group, "after")
    world.settle()
    cy.ask(c.Join(group))
    bob.send(group, "heard")
    world.settle()
    assert bob.read() == ["before", "after"]
    assert (ada.read(), cy.read()) == (["heard"], ["after", "heard"])
    assert {ada.view(group).epoch, bob.view(group).epoch, cy.view(group).epoch} == {2}


@pytest.mark.parametrize(
    "failure, code", [(apsw.FullError, "disk-full"), (apsw.IOError, "disk-error")]
)
def test_a_commit_that_fails_undoes_the_batch(
    tmp_path: Path, disk: FailingDisk, failure: type[Exception], code: str
) -> None:
    """Everything was done but the COMMIT: MLS moved on in memory, and has to come back."""
    world = World(tmp_path)
    ada, bob = world.friends("Ada", "Bob")
    group = ada.create("harbour", mls_rs.CLASSIC, bob)
    world.settle()
    bob.ask(c.Join(group))
    ada.send(group, "first")
    waiting = world.take(ada, bob)
    before = everything(ada), everything(bob)

    disk.fail = failure
    only_disk(ada.run(c.Send(group, "lost"), c.UpdateKey(group), c.Send(group, "also")), code)
    only_disk(bob.run(*(d.Arrived(parcel, "direct") for parcel in waiting)), code)
    disk.fail = None

    assert (everything(ada), everything(bob)) == before
    again = {parcel.id for parcel in world.take(ada, bob)}
    assert again <= {parcel.id for parcel in waiting}, "something of a refused batch would leave"
    # The same generations, and the same keys, are used now: nothing of the batch has left.
    ada.send(group, "second")
    world.hand(ada, bob, waiting)
    world.settle()
    bob.send(group, "answer")
    world.settle()
    assert (bob.read(), ada.read()) == (["first", "second"], ["answer"])
    assert ada.view(group).epoch == bob.view(group).epoch


@pytest.mark.parametrize("suite", SUITES)
def test_a_welcome_that_finds_no_room_can_come_again(tmp_path: Path, suite: int) -> None:
    """Joining uses the KeyPackage up: it has to be there again."""
    world = World(tmp_path)
    ada, bob = world.friends("Ada", "Bob")
    group = ada.create("harbour", suite, bob)
    parcels = world.take(ada, bob)
    before = everything(bob)

    room = no_room(bob)
    answers = bob.run(*arrivals(parcels), *[d.MakeKeyPackage(suite)] * 20)
    only_disk(answers, "disk-full")
    assert everything(bob) == before

    room()
    assert all(isinstance(answer, v.Accepted) for answer in bob.run(*arrivals(parcels)))
    bob.ask(c.Join(group))
    check_both_talk(world, ada, bob, group)


@pytest.mark.parametrize("suite", SUITES)
def test_a_restart_instead_of_room_finds_the_same(tmp_path: Path, suite: int) -> None:
    world = World(tmp_path)
    ada, bob = world.friends("Ada", "Bob")
    group = ada.create("harbour", suite, bob)
    world.settle()
    bob.ask(c.Join(group))
    no_room(ada)
    only_disk(ada.run(c.Send(group, LONG), c.UpdateKey(group)), "disk-full")
    ada.restart()
    check_both_talk(world, ada, bob, group)


def test_a_receipt_that_was_owed_is_owed_still(tmp_path: Path, disk: FailingDisk) -> None:
    """A batch that fails must not forget whom to tell: its author would wait for long."""
    world = World(tmp_path)
    ada, bob = world.friends("Ada", "Bob")
    group = ada.create("harbour", mls_rs.CLASSIC, bob)
    world.settle()
    bob.ask(c.Join(group))
    message = ada.send(group, "hello")
    world.deliver = lambda sender, recipient: sender is ada
    world.settle()

    world.now += 2.0  # the receipt is due
    disk.fail = apsw.FullError
    only_disk(bob.run(c.Tick()), "disk-full")
    disk.fail = None
    world.deliver = lambda sender, recipient: True
    world.settle(5.0)
    assert ada.states(message) == {"Bob": "delivered"}


def arrivals(parcels: list[Parcel]) -> list[d.Arrived]:
    return [d.Arrived(parcel, "direct") for parcel in parcels]


def check_both_talk(world: World, ada: Person, bob: Person, group: GroupId) -> None:
    ada.send(group, "ahoy")
    bob.send(group, "ahoy yourself")
    world.settle(5.0)
    assert (bob.read(), ada.read()) == (["ahoy"], ["ahoy yourself"])
    assert ada.view(group).epoch == bob.view(group).epoch
