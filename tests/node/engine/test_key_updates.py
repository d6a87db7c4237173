"""Leaves are refreshed by themselves, each once within a week of activity, and never at once."""

from __future__ import annotations

import mls_rs
import pytest

from node.engine import commands as c
from node.engine import values as v
from node.engine.groups.key_updates import LOOK_S, WITHIN_S
from schemas.ids import GroupId
from tests.node.engine.world import Person, World

K = mls_rs.CLASSIC


def crowd(size: int) -> tuple[World, list[Person], GroupId]:
    world = World(None)
    people = [world.person(f"p{i}") for i in range(size)]
    people[0].knows(*people[1:])
    group = people[0].create("tea", K, *people[1:])
    world.settle()
    for person in people[1:]:
        person.ask(c.Join(group))
    world.settle()
    return world, people, group


def committers(people: list[Person], since: int) -> list[str]:
    """Who made each commit, as the first member saw it."""
    seen = [event for event in people[0].events[since:] if event.kind == "members"]
    return [str(event.fields["by"]) for event in seen]


def run(world: World, people: list[Person], until: float) -> None:
    """Time goes on in steps up to the next thing that anybody has to do."""
    _tick(people)  # times are drawn
    while world.now < until:
        dues = [
            due
            for person in people
            for due in (person.engine._key_updates.next_due(), _drawn(person))
            if due is not None
        ]
        soonest = min(dues, default=until)
        world.now = min(max(soonest, world.now + 1.0), world.now + 80_000.0, until)
        _tick(people)
        world.settle()


def _tick(people: list[Person]) -> None:
    for person in people:
        person.engine._key_updates._next_look = 0.0
        person.ask(c.Tick())


def _drawn(person: Person) -> float | None:
    value = person.engine._core.db.value("SELECT min(due) FROM key_updates")
    return None if value is None or value <= person.world.now else float(value)


# The largest takes some seconds: each of 50 engines takes 50 commits in.
@pytest.mark.parametrize("size", [2, 5, 50])
def test_each_leaf_is_refreshed_once_within_a_week_and_nobody_collides(size: int) -> None:
    world, people, group = crowd(size)
    people[0].send(group, "hello")
    world.settle()
    since = len(people[0].events)
    run(world, people, world.now + WITHIN_S + 3600)
    made = committers(people, since)
    assert sorted(made) == sorted(person.name for person in people)
    assert {person.view(group).status for person in people} == {v.GroupStatus.ACTIVE}
    assert len({person.view(group).epoch_id for person in people}) == 1
    people[-1].send(group, "still one group")
    world.settle()
    assert people[0].read() == ["still one group"]


def test_when_all_are_due_at_once_they_take_turns() -> None:
    """As after a week in which everybody's machine was off."""
    world, people, group = crowd(5)
    people[0].send(group, "hello")
    world.settle()
    for person in people:
        person.ask(c.Tick())
    world.later(2 * WITHIN_S)
    since = len(people[0].events)
    for _ in range(900):
        world.now += 1.0
        for person in people:
            person.ask(c.Tick())
        if any(person.engine._core.outbox.unsent() for person in people):
            world.now += 2.0  # a commit takes a while to reach the others
            world.settle()
    assert {person.view(group).status for person in people} == {v.GroupStatus.ACTIVE}
    made = committers(people, since)
    assert sorted(made) == sorted(person.name for person in people)


def test_group_in_which_nobody_speaks_makes_no_traffic() -> None:
    world, people, group = crowd(3)
    epoch = people[0].view(group).epoch
    run(world, people, world.now + 3 * WITHIN_S)
    assert people[0].view(group).epoch == epoch


def test_own_commit_counts_as_refreshed() -> None:
    world, people, group = crowd(2)
    people[0].send(group, "hello")
    world.settle(LOOK_S + 1)
    assert people[0].engine._core.groups.key_update(group)[1] is not None
    people[0].ask(c.UpdateKey(group))
    world.settle()
    assert people[0].engine._core.groups.key_update(group)[1] is None
    assert people[1].engine._core.groups.key_update(group)[1] is not None
