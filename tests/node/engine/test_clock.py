"""The machine's clock jumps: nothing is lost, given up or stuck because of that."""

from __future__ import annotations

import apsw
import mls_rs
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from node.engine import commands as c
from node.engine import delivery_commands as d
from node.engine import values as v
from node.engine.clock import DOUBT_S, JUMP_S, Clock
from node.store.database import MIGRATIONS, Database
from node.store.people import PeopleStore
from schemas.ids import GroupId
from storage.sqlite import migrate
from tests.node.engine.world import START, Person, World

K = mls_rs.CLASSIC
HOUR_S, YEAR_S = 3600.0, 365 * 86_400.0
JUMPS = [-HOUR_S, HOUR_S, -YEAR_S, YEAR_S]


@pytest.fixture
def tea(world: World) -> tuple[Person, Person, GroupId]:
    ada, bob = world.friends("ada", "bob")
    group = ada.create("tea", K, bob)
    world.settle()
    bob.ask(c.Join(group))
    world.settle(2)
    return ada, bob, group


def ticks(world: World) -> None:
    for person in world.people:
        person.ask(c.Tick())


@pytest.mark.parametrize("jump", JUMPS)
def test_message_under_way_survives_a_jump_and_the_way_back(
    world: World, tea: tuple[Person, Person, GroupId], jump: float
) -> None:
    ada, bob, group = tea
    world.deliver = lambda sender, recipient: False
    first = ada.send(group, "before")
    (parcel,) = world.take(ada, bob)
    ada.ask(d.ReportOutcomes((d.Outcome(parcel.id),)))
    world.now += jump
    ticks(world)
    second = ada.send(group, "in the wrong time")
    ticks(world)
    parcels = world.take(ada, bob)
    ada.ask(d.ReportOutcomes(tuple(d.Outcome(p.id, reason="relay-unreachable") for p in parcels)))
    assert set(ada.states(first).values()) == {"queued"}
    world.now -= jump
    world.deliver = lambda sender, recipient: True
    world.settle(20)
    assert bob.read() == ["before", "in the wrong time"]
    world.settle(90)
    assert set(ada.states(first).values()) == set(ada.states(second).values()) == {"read"}


def test_what_relays_hold_is_not_forgotten_when_the_clock_was_ahead(
    world: World, tea: tuple[Person, Person, GroupId]
) -> None:
    ada, bob, group = tea
    world.now += YEAR_S
    ada.send(group, "held")
    (parcel,) = world.take(ada, bob)
    until = int(world.now) + 7 * 86_400
    ada.ask(d.ReportOutcomes((d.Outcome(parcel.id, held=("r:1#" + "ab" * 32, until)),)))
    world.now -= YEAR_S
    ada.ask(c.Tick())
    assert [again.id for again in world.take(ada, bob)] == [parcel.id]


def test_forward_jump_that_lasts_is_believed_after_an_hour(
    world: World, tea: tuple[Person, Person, GroupId]
) -> None:
    ada, _, group = tea
    world.deliver = lambda sender, recipient: False
    message = ada.send(group, "too late")
    world.now += 40 * 86_400
    ticks(world)
    ada.restart()  # the doubt outlives the process
    ada.ask(c.Tick())
    assert ada.states(message) == {"bob": "queued"}
    world.now += DOUBT_S
    ada.ask(c.Tick())
    assert ada.states(message) == {"bob": "expired"}


def test_wishes_and_receipts_are_not_stuck_after_a_step_back(
    world: World, tea: tuple[Person, Person, GroupId]
) -> None:
    ada, bob, group = tea
    world.now += YEAR_S
    ticks(world)
    message = ada.send(group, "hello")
    for sender, recipient in ((ada, bob),):
        world.hand(sender, recipient, world.take(sender, recipient))
    world.now -= YEAR_S
    world.settle(5)
    assert ada.states(message) == {"bob": "delivered"}

    world.now += YEAR_S
    bob.ask(c.Leave(group))
    world.hand(bob, ada, world.take(bob, ada))  # ada has drawn her time to carry it
    world.now -= YEAR_S
    world.settle(30)
    assert bob.view(group).status is v.GroupStatus.LEFT


@pytest.mark.parametrize("jump", JUMPS)
def test_no_busy_loop_after_a_jump(
    world: World, tea: tuple[Person, Person, GroupId], jump: float
) -> None:
    ada, _, group = tea
    world.deliver = lambda sender, recipient: False
    ada.send(group, "waits")
    world.now += jump
    for _ in range(5):
        result = ada.engine.run([c.Tick()], world.now)
        assert world.now < result.wake_at <= world.now + 30
        world.now = result.wake_at
    quiet = [e for e in result.effects if not isinstance(e, v.OutboxReady)]
    assert quiet == []


def test_order_does_not_depend_on_clocks(world: World, tea: tuple[Person, Person, GroupId]) -> None:
    ada, bob, group = tea
    texts = []
    for number, jump in enumerate((YEAR_S, -2 * YEAR_S, HOUR_S, YEAR_S - HOUR_S)):
        world.now += jump
        sender = (ada, bob)[number % 2]
        sender.send(group, str(number))
        world.settle()
        texts.append(str(number))
    assert ada.read() == texts[1::2]
    assert bob.read() == texts[0::2]
    lamports = [
        person.engine._core.db.rows("SELECT text FROM messages ORDER BY lamport")
        for person in (ada, bob)
    ]
    assert lamports[0] == lamports[1] == [(text,) for text in texts]


def _clock() -> Clock:
    connection = apsw.Connection(":memory:")
    migrate(connection, MIGRATIONS)
    return Clock(PeopleStore(Database(connection)))


@settings(max_examples=200, deadline=None)
@given(st.lists(st.floats(-2 * YEAR_S, 2 * YEAR_S), max_size=30))
@example([-1.0, 86_401.0])  # a small step back hides nothing of the leap after it
@example([90_001.0, 7_200.0])
@example([90_001.0, 3_000.0, 90_001.0])
def test_no_leap_is_believed_at_once_and_time_always_catches_up(steps: list[float]) -> None:
    clock, now = _clock(), START
    clock.observe(now)
    for step in steps:
        before, last = clock.believed, now
        now = max(now + step, 1.0)
        clock.observe(now)
        assert clock.believed <= now
        if now - last > JUMP_S:
            assert clock.believed <= before
    for _ in range(400):
        now += 30.0
        clock.observe(now)
    assert clock.believed == now
