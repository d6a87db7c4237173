"""Forks heal: real engines on both suites, joined by a network that the test steers."""

from __future__ import annotations

from collections.abc import Callable

import mls_rs
import pytest

from node.engine import commands as c
from node.engine import values as v
from tests.node.engine.world import Person, World

HEAL_S = 30.0


def one_group(group: bytes, *people: Person) -> None:
    """All stand in one epoch with one secret, and nobody waits."""
    views = [person.view(group) for person in people]  # type: ignore[arg-type]
    assert {view.status for view in views} == {v.GroupStatus.ACTIVE}
    assert len({view.epoch_id for view in views}) == 1
    rosters = [{device for member in view.members for device in member.devices} for view in views]
    assert all(roster == rosters[0] for roster in rosters)
    assert {person.device for person in people} == rosters[0]


def told(person: Person, kind: str) -> list[dict[str, object]]:
    return [dict(event.fields) for event in person.events if event.kind == kind]


def apart(*sides: set[Person] | list[Person]) -> Callable[[Person, Person], bool]:
    where = {person.name: number for number, side in enumerate(sides) for person in side}
    return lambda sender, recipient: where[sender.name] == where[recipient.name]


def test_two_commits_at_once_are_one_epoch_within_seconds(world: World, suite: int) -> None:
    ada, bob = world.friends("ada", "bob")
    group = ada.create("tea", suite, bob)
    world.settle()
    bob.ask(c.Join(group))
    ada.ask(c.UpdateKey(group))
    bob.ask(c.UpdateKey(group))
    world.settle(2)
    one_group(group, ada, bob)
    for person in (ada, bob):
        healed = told(person, "group-healed")
        assert len(healed) == 1, "both are told, once"
        assert set(healed[0]["by"]) == {"ada", "bob"}  # type: ignore[call-overload]
    one, other = ada.send(group, "one"), bob.send(group, "other")
    world.settle(2)
    assert (ada.read(), bob.read()) == (["other"], ["one"])
    assert ada.states(one)["bob"] in ("delivered", "read")
    assert bob.states(other)["ada"] in ("delivered", "read")


def test_a_commit_that_comes_before_its_parent_is_entered_when_the_parent_comes(
    world: World, suite: int
) -> None:
    ada, bob, cy = world.friends("ada", "bob", "cy")
    group = ada.create("tea", suite, bob, cy)
    world.settle()
    for person in (bob, cy):
        person.ask(c.Join(group))
    world.settle(2)
    world.deliver = lambda sender, recipient: (sender, recipient) == (ada, bob)
    ada.ask(c.UpdateKey(group))
    world.settle()
    bob.ask(c.UpdateKey(group))
    world.deliver = lambda sender, recipient: (sender, recipient) == (bob, cy)
    world.settle()
    world.deliver = lambda sender, recipient: (sender, recipient) != (bob, cy)
    world.settle(2)
    one_group(group, ada, bob, cy)


def test_messages_of_the_lost_branch_are_sealed_again(world: World, suite: int) -> None:
    people = world.friends("ada", "bob", "cy")
    ada, bob, cy = people
    group = ada.create("tea", suite, bob, cy)
    world.settle()
    for person in (bob, cy):
        person.ask(c.Join(group))
    world.settle(2)
    world.deliver = lambda sender, recipient: False
    for person in people:
        person.ask(c.UpdateKey(group))
        person.send(group, f"from {person.name}")
    world.deliver = lambda sender, recipient: True
    world.settle(HEAL_S)
    one_group(group, *people)
    for person in people:
        assert sorted(person.read()) == sorted(f"from {o.name}" for o in people if o is not person)


def test_sends_wait_for_the_second_in_which_a_fork_is_decided(world: World) -> None:
    ada, bob = world.friends("ada", "bob")
    group = ada.create("tea", mls_rs.CLASSIC, bob)
    world.settle()
    bob.ask(c.Join(group))
    world.settle(2)
    ada.ask(c.UpdateKey(group))
    bob.ask(c.UpdateKey(group))
    world.settle()
    (waits,) = [p for p in (ada, bob) if p.view(group).status is v.GroupStatus.SPLIT]
    other = bob if waits is ada else ada
    sent = waits.ask(c.Send(group, "kept"))
    assert sent.status == "queued (group_split)"
    (why,) = waits.ask(c.Why(sent.message.hex()))
    assert "at once" in why.sentence or "same time" in why.sentence
    world.settle(2)
    assert other.read() == ["kept"]


def test_lost_removal_is_made_again(world: World, suite: int) -> None:
    people = world.friends("ada", "bob", "cy", "dan")
    ada, bob, cy, dan = people
    group = ada.create("tea", suite, bob, cy, dan)
    world.settle()
    for person in people[1:]:
        person.ask(c.Join(group))
    world.settle(2)
    world.deliver = apart([ada], [bob, cy, dan])
    ada.ask(c.RemoveMember(group, dan.identity))
    for _ in range(3):
        bob.ask(c.UpdateKey(group))
        world.settle(15)
        for person in (bob, cy, dan):
            person.send(group, f"{person.name} is here")
    world.settle(15)
    world.deliver = lambda sender, recipient: True
    world.settle(HEAL_S)
    one_group(group, ada, bob, cy)
    assert dan.view(group).status is v.GroupStatus.REMOVED
    assert told(ada, "group-healed")[-1]["proposed_again"] == ["removal of dan"]


def test_invitation_on_the_lost_branch_is_made_again(world: World, suite: int) -> None:
    people = world.friends("ada", "bob", "cy", "eve")
    ada, bob, cy, eve = people
    group = ada.create("tea", suite, bob, cy)
    world.settle()
    for person in (bob, cy):
        person.ask(c.Join(group))
    world.settle(2)
    world.deliver = apart([ada, eve], [bob, cy])
    ada.invite(group, eve)
    world.settle(2)
    eve.ask(c.Join(group))
    eve.send(group, "hello from eve")
    for _ in range(3):
        bob.ask(c.UpdateKey(group))
        world.settle(15)
        cy.send(group, "we are two")
    world.settle(15)
    world.deliver = lambda sender, recipient: True
    world.settle(HEAL_S)
    one_group(group, ada, bob, cy, eve)
    assert "hello from eve" in bob.read()
    eve.send(group, "again")
    world.settle(3)
    assert bob.read() == ["again"]


def test_halves_with_many_commits_are_one_group_again(world: World) -> None:
    people = world.friends("ada", "bob", "cy", "dan", "eve", "fay")
    group = people[0].create("tea", mls_rs.CLASSIC, *people[1:])
    world.settle()
    for person in people[1:]:
        person.ask(c.Join(group))
    world.settle(2)
    left, right = people[:3], people[3:]
    world.deliver = apart(left, right)
    for number in range(5):
        for side in (left, right):
            side[number % 3].ask(c.UpdateKey(group))
            world.settle(12)
            side[(number + 1) % 3].send(group, f"{side[0].name} {number}")
    world.settle(12)
    world.deliver = lambda sender, recipient: True
    world.link(*people)
    world.settle(HEAL_S)
    one_group(group, *people)
    everything = {f"{side[0].name} {number}" for side in (left, right) for number in range(5)}
    for person in people:
        own = {m.text for m in person.ask(c.ReadHistory(group)) if m.own}
        assert set(person.read()) | own == everything


def test_a_member_that_cannot_enter_is_admitted_again(
    world: World, suite: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("schemas.limits.SNAPSHOT_EPOCHS", 1)
    people = world.friends("ada", "bob", "cy")
    ada, bob, cy = people
    group = ada.create("tea", suite, bob, cy)
    world.settle()
    for person in (bob, cy):
        person.ask(c.Join(group))
    world.settle(2)
    world.deliver = apart([ada, bob], [cy])
    for number in range(3):
        for person in (ada, cy):
            person.ask(c.UpdateKey(group))
            person.send(group, f"{person.name} {number}")
            world.settle(12)
    world.deliver = lambda sender, recipient: True
    world.link(*people)
    world.settle(2 * HEAL_S)
    one_group(group, *people)
    assert sorted(cy.read()) == ["ada 0", "ada 1", "ada 2"], "sealed again for its new leaf"
    assert {f"cy {n}" for n in range(3)} <= set(ada.read())
    assert told(cy, "group-waits")


def test_crash_while_a_fork_waits_is_no_loss(world: World) -> None:
    ada, bob = world.friends("ada", "bob")
    group = ada.create("tea", mls_rs.CLASSIC, bob)
    world.settle()
    bob.ask(c.Join(group))
    world.settle(2)
    for person in (ada, bob):
        person.ask(c.UpdateKey(group))
    world.settle()
    for person in (ada, bob):
        person.send(group, f"from {person.name}")
        person.restart()
    world.settle(5)
    one_group(group, ada, bob)
    assert (ada.read(), bob.read()) == (["from bob"], ["from ada"])


def test_the_way_back_is_not_trimmed_by_leaving(world: World) -> None:
    """Whoever slept for longer than snapshots are kept goes back to one all the same (found by
    asleep-ten-days, seed 0: the snapshot went while the epoch was left, and the commit that was
    tried on the wrong state was taken for a bad one)."""
    people = world.friends("ada", "bob", "cy")
    ada, bob, cy = people
    group = world.tea(people)
    world.deliver = apart([ada, bob], [cy])
    cy.ask(c.UpdateKey(group))
    for _ in range(3):
        ada.ask(c.UpdateKey(group))
        world.settle(12)
        bob.send(group, "we go on")
    world.later(10 * 86_400)
    world.deliver = lambda sender, recipient: True
    world.link(*people)
    world.settle(2 * HEAL_S)
    one_group(group, *people)
    assert set(cy.read()) == {"we go on"}


def test_removed_by_a_branch_that_loses_reads_on_until_it_is_removed_again(
    world: World, suite: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a commit that was processed; with one snapshot, by its header alone."""
    for snapshots in (64, 1):
        monkeypatch.setattr("schemas.limits.SNAPSHOT_EPOCHS", snapshots)
        people = ada, bob, cy, dan = world.friends(*(f"{n}{snapshots}" for n in "abcd"))
        group = ada.create("tea", suite, bob, cy, dan)
        world.settle()
        for person in people[1:]:
            person.ask(c.Join(group))
        world.settle(2)
        world.deliver = apart([ada, dan], [bob, cy], [p for p in world.people if p not in people])
        if snapshots == 1:
            dan.ask(c.UpdateKey(group))
            world.settle(2)
        ada.ask(c.RemoveMember(group, dan.identity))
        world.settle(2)
        assert dan.view(group).status is v.GroupStatus.REMOVED
        for _ in range(2):
            bob.ask(c.UpdateKey(group))
            world.settle(12)
            cy.send(group, "we go on")
        world.deliver = lambda sender, recipient: True
        world.link(*people)
        world.settle(HEAL_S)
        if snapshots == 64:
            assert set(dan.read()) == {"we go on"}, "it was a member when that was written"
        one_group(group, ada, bob, cy)
        assert dan.view(group).status is v.GroupStatus.REMOVED, "the removal was made again"
