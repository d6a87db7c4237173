"""Sends write a generation instead of the state, and groups take turns at the outbox."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import mls_rs
import pytest

from node.engine import commands as c
from node.engine import delivery_commands as d
from node.engine import values as v
from schemas.errors import Blame, Fault, Refused
from schemas.ids import GroupId, ParcelId
from schemas.parcels import MessageContent, ParcelBody
from schemas.records import Signed
from tests.node.engine.test_hostile import reopen
from tests.node.engine.world import Person, World


@pytest.mark.parametrize("suite", [mls_rs.HYBRID, mls_rs.CLASSIC])
def test_a_generation_is_never_used_twice_whenever_the_process_dies(
    world: World, suite: int
) -> None:
    """The receiver keeps one message per generation: a second one would be lost for ever."""
    ada, bob = world.friends("ada", "bob")
    group = ada.create("tea", suite, bob)
    world.settle()
    bob.ask(c.Join(group))
    for n in range(6):
        for k in range(3):
            ada.send(group, f"{n}.{k}")
        ada.restart()  # what it knew in memory is gone; nothing was handed over yet
        bob.send(group, f"answer {n}")
        if n % 2:
            world.settle(400.0)
    world.settle(400.0)
    said = [text for text in bob.read(group) if not text.startswith("answer")]
    assert sorted(said) == sorted(f"{n}.{k}" for n in range(6) for k in range(3))
    assert len([text for text in ada.read(group) if text.startswith("answer")]) == 6


def test_a_refused_command_takes_nothing_back_that_the_same_batch_did(world: World) -> None:
    """The state is written once per batch: undoing one command must not undo its neighbours, or
    their keys could be used again."""
    ada, bob = world.friends("ada", "bob")
    group = ada.create("tea", mls_rs.CLASSIC, bob)
    world.settle()
    bob.ask(c.Join(group))
    for n in range(2):
        ada.send(group, f"{n}")
    contents = [reopen(bob, parcel).content for parcel in world.take(ada, bob)]
    one, two = [content.mls for content in contents if isinstance(content, MessageContent)]
    core = bob.engine._core
    row = core.group(group)
    with core.db.transaction():
        core.begin_batch(core.now)
        with core.undoable():
            core.mls_group(group).process(one)
            core.write_mls_later(row)
        with pytest.raises(Refused), core.undoable():  # noqa: PT012 - what a command does
            core.mls_group(group).process(two)
            core.write_mls_later(row)
            raise Refused("no", "the command was refused after all")
        with pytest.raises(mls_rs.KeyUnavailable):
            core.mls_group(group).process(one)
        core.mls_group(group).process(two)
        core.write_unwritten()
    bob.restart()
    with pytest.raises(mls_rs.KeyUnavailable):
        bob.engine._core.mls_group(group).process(one)


def test_the_backlog_of_one_group_does_not_delay_another(world: World) -> None:
    """A chat of two stays quick while a big group's backlog waits for the same person."""
    ada, bob = world.friends("ada", "bob")
    crowd = ada.create("crowd", mls_rs.CLASSIC, bob)
    chat = ada.create("chat", mls_rs.CLASSIC, bob)
    world.settle()
    bob.ask(c.Join(crowd))
    bob.ask(c.Join(chat))
    world.settle(5.0)
    for n in range(200):
        ada.send(crowd, f"noise {n}")
    for n in range(8):
        ada.send(chat, f"hello {n}")
    first = ada.ask(d.TakeDue(bob.device, 8))
    for item in first:
        ada.ask(d.ReportOutcomes((d.Outcome(item.parcel, retry_after_s=0.0),)))
    groups = [item_group(item.body) for item in first]
    assert groups.count(chat) == groups.count(crowd) == 4, "one each, in turns"


def item_group(body: bytes) -> bytes:
    return ParcelBody.decode(body).group


def test_a_long_backlog_makes_nothing_slower(world: World) -> None:
    """SQLite's own count of its steps: taking, and settling a receipt, cost the same in front of
    a hundred waiting messages and of a thousand."""
    ada, bob = world.friends("ada", "bob")
    group = ada.create("tea", mls_rs.CLASSIC, bob)
    world.settle()
    bob.ask(c.Join(group))
    world.settle(5.0)
    world.link(ada, bob)
    few = _steps_of_a_turn(world, ada, bob, group, waiting=100)
    many = _steps_of_a_turn(world, ada, bob, group, waiting=1000)
    assert many < 1.5 * few


def _steps_of_a_turn(
    world: World, ada: Person, bob: Person, group: GroupId, *, waiting: int
) -> int:
    """Of taking parcels, their receipt and their outcomes."""
    ada.run(*(c.Send(group, "hello") for _ in range(waiting)))
    steps = 0

    def step() -> bool:
        nonlocal steps
        steps += 1
        return False

    ada.database.set_progress_handler(step, 10)
    parcels = world.take(ada, bob)
    ada.database.set_progress_handler(None)
    assert len(parcels) == 64
    bob.summaries.clear()
    bob.run(*(d.Arrived(parcel, "direct") for parcel in parcels))
    receipt = d.ReceiveSummary(bob.device, Signed.decode(bob.summaries[-1].summary))
    outcomes = d.ReportOutcomes(tuple(d.Outcome(parcel.id, acked=True) for parcel in parcels))
    ada.database.set_progress_handler(step, 10)
    ada.run(receipt, outcomes)
    ada.database.set_progress_handler(None)
    return steps


def test_what_is_under_way_is_passed_over_and_what_came_back_goes_first(world: World) -> None:
    ada, bob = world.friends("ada", "bob")
    group = ada.create("tea", mls_rs.CLASSIC, bob)
    world.settle()
    bob.ask(c.Join(group))
    world.settle(5.0)
    ada.run(*(c.Send(group, "hello") for _ in range(30)))

    def take() -> list[ParcelId]:
        return [item.parcel for item in ada.ask(d.TakeDue(bob.device, 10))]

    one, two = take(), take()
    back = (one[3], two[5])
    ada.ask(d.ReportOutcomes(tuple(d.Outcome(parcel, retry_after_s=0.0) for parcel in back)))
    world.now += 1.0
    rest: list[ParcelId] = []
    while found := take():
        rest += found
    assert rest[:1] == [one[3]]
    assert len({*one, *two, *rest}) == 30
    assert len(rest) == 12


@pytest.fixture
def under_way(world: World) -> tuple[Person, Person, GroupId, list[ParcelId]]:
    """ada, bob, and what ada's delivery has for bob."""
    ada, bob = world.friends("ada", "bob")
    group = ada.create("tea", mls_rs.CLASSIC, bob)
    world.settle()
    bob.ask(c.Join(group))
    world.settle(5.0)
    ada.run(*(c.Send(group, "hello") for _ in range(3)))
    taken = [item.parcel for item in ada.ask(d.TakeDue(bob.device))]
    assert len(taken) == 3
    return ada, bob, group, taken


@contextmanager
def a_full_disk(person: Person, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What is done meanwhile fails at its COMMIT."""
    database = person.engine._db
    real = database.transaction

    @contextmanager
    def full() -> Iterator[None]:
        with real():
            yield
            raise Fault("disk-full", "the disk is full", blame=Blame.ENVIRONMENT)

    with monkeypatch.context() as patch:
        patch.setattr(database, "transaction", full)
        yield


def test_a_batch_that_failed_hands_nothing_out_again_that_is_out(
    under_way: tuple[Person, Person, GroupId, list[ParcelId]], monkeypatch: pytest.MonkeyPatch
) -> None:
    ada, bob, group, _ = under_way
    ada.send(group, "due")
    with a_full_disk(ada, monkeypatch):
        answers = ada.run(c.Send(group, "refused"), d.TakeDue(bob.device))
    assert all(isinstance(answer, Fault) for answer in answers)
    again = ada.ask(d.TakeDue(bob.device))
    assert len(again) == 1, "what the batch took was never given out; the rest is out"


def test_outcomes_that_could_not_be_written_leave_the_parcels_out(
    under_way: tuple[Person, Person, GroupId, list[ParcelId]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Delivery reports them again."""
    ada, bob, _, taken = under_way
    report = d.ReportOutcomes(tuple(d.Outcome(parcel, retry_after_s=0.0) for parcel in taken))
    with a_full_disk(ada, monkeypatch):
        ada.run(report)
    assert ada.ask(d.TakeDue(bob.device)) == ()
    ada.ask(report)
    ada.world.now += 1.0
    assert [item.parcel for item in ada.ask(d.TakeDue(bob.device))] == taken


def test_reading_what_is_new_does_not_walk_over_what_is_old(world: World) -> None:
    """Someone who reads each message as it comes pays for that message, not for the history."""
    ada, bob = world.friends("ada", "bob")
    group = ada.create("tea", mls_rs.CLASSIC, bob)
    world.settle()
    bob.ask(c.Join(group))
    world.link(ada, bob)

    def steps_of_one() -> int:
        ada.send(group, "new")
        world.settle()
        steps = 0

        def step() -> bool:
            nonlocal steps
            steps += 1
            return False

        bob.database.set_progress_handler(step, 10)
        assert bob.read() == ["new"]
        bob.ask(c.ReadHistory(group, limit=5))
        bob.database.set_progress_handler(None)
        return steps

    few = steps_of_one()
    ada.run(*(c.Send(group, "old") for _ in range(500)))
    world.settle()
    while bob.read():
        pass
    assert steps_of_one() < 1.5 * few


def test_a_relay_cannot_say_that_it_keeps_a_message_for_ever(world: World) -> None:
    """Else nothing would be handed over again, and no day could be told to the user."""
    ada, bob = world.friends("ada", "bob")
    group = ada.create("tea", mls_rs.CLASSIC, bob)
    world.settle()
    bob.ask(c.Join(group))
    world.settle(5)
    message = ada.send(group, "hello")
    (item,) = ada.ask(d.TakeDue(bob.device))
    for_ever = d.Outcome(item.parcel, held=("r:1#" + "ab" * 32, 2**64 - 1))
    assert ada.ask(d.ReportOutcomes((for_ever,))) is None
    (row,) = ada.ask(c.ReadLedger(message.hex()))
    assert row.state is v.State.HELD
    assert row.held_until == item.expires
    assert str(datetime.fromtimestamp(item.expires, UTC).date()) in (
        ada.ask(c.Why(message.hex()))[0].sentence
    )
    again = ada.engine._core.outbox.next_try(world.now)
    assert again is not None
    assert again < item.expires


def test_a_relay_cannot_say_so_of_a_message_that_was_delivered_meanwhile(world: World) -> None:
    ada, bob = world.friends("ada", "bob")
    group = ada.create("tea", mls_rs.CLASSIC, bob)
    world.settle()
    bob.ask(c.Join(group))
    world.settle(5)
    world.link(ada, bob)
    message = ada.send(group, "hello")
    (parcel,) = world.take(ada, bob)
    assert bob.ask(d.Arrived(parcel, "relay")) == v.Accepted()
    world.settle()
    assert ada.states(message) == {"bob": "delivered"}
    for_ever = d.Outcome(parcel.id, held=("r:1#" + "ab" * 32, 2**64 - 1))
    assert ada.ask(d.ReportOutcomes((for_ever,))) is None
    (row,) = ada.ask(c.ReadLedger(message.hex()))
    assert row.held_until == parcel.expires
