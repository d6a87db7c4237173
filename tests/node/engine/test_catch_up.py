"""Members who meet hand over what one of them missed, with nobody's author and no relay near."""

from __future__ import annotations

import mls_rs
import pytest

from node.engine import catch_up, serving
from node.engine import commands as c
from node.engine import delivery_commands as d
from node.engine import values as v
from schemas.ids import GroupId
from tests.node.engine.world import Person, World


def unlink(*people: Person) -> None:
    for person in people:
        for other in people:
            if other is not person:
                person.ask(d.LinkDown(other.device))


def away(world: World, *gone: Person) -> None:
    """Nothing reaches these people, and nothing comes from them."""
    world.deliver = lambda sender, recipient: sender not in gone and recipient not in gone


def in_vain(sender: Person, recipient: Person) -> None:
    """Delivery tried, and told the engine that nobody is there."""
    items = sender.ask(d.TakeDue(recipient.device))
    outcomes = [d.Outcome(item.parcel, reason="relay-unreachable") for item in items]
    sender.ask(d.ReportOutcomes(tuple(outcomes)))


def paths(person: Person, group: GroupId) -> list[tuple[str, str]]:
    return [(m.text, m.path) for m in person.ask(c.ReadHistory(group)) if not m.own]


@pytest.fixture
def trio(world: World) -> tuple[World, list[Person], GroupId]:
    people = world.friends("Ada", "Bob", "Cy")
    return world, people, world.tea(people)


def test_message_reaches_a_third_member_after_its_author_is_gone(
    trio: tuple[World, list[Person], GroupId],
) -> None:
    world, (ada, bob, cy), group = trio
    away(world, cy)
    message = ada.send(group, "see you at noon")
    in_vain(ada, cy)
    world.settle(2)
    row = {row.name: row for row in ada.ask(c.ReadLedger(message.hex()))}
    assert row["Bob"].state is v.State.DELIVERED
    assert (row["Cy"].state, row["Cy"].path) == (v.State.CARRIED, "carried")
    assert (row["Cy"].by, row["Cy"].by_name) == (bob.identity, "Bob")
    why = ada.ask(c.Why(message.hex()))[0]
    assert why.sentence.startswith("Bob has it and hands it on")

    away(world, ada)
    world.link(bob, cy)
    world.settle(2)
    assert paths(cy, group) == [("see you at noon", "carried")]

    world.deliver = lambda sender, _: sender is cy  # a summary is the first that a link brings
    world.link(ada, cy)
    world.settle(2)
    away(world)
    world.settle(2)
    row = {row.name: row for row in ada.ask(c.ReadLedger(message.hex()))}
    assert (row["Cy"].state, row["Cy"].path) == (v.State.DELIVERED, "carried")
    assert paths(cy, group) == [("see you at noon", "carried")]  # once


def test_whoever_has_it_is_named_also_when_the_receipt_came_first(
    trio: tuple[World, list[Person], GroupId],
) -> None:
    world, (ada, _, cy), group = trio
    away(world, cy)
    message = ada.send(group, "hello")
    world.settle(2)
    assert ada.states(message) == {"Bob": "delivered", "Cy": "queued"}
    in_vain(ada, cy)
    assert ada.states(message) == {"Bob": "delivered", "Cy": "carried"}
    away(world)
    world.later(700)
    world.settle(2)
    assert ada.states(message) == {"Bob": "delivered", "Cy": "delivered"}


def test_commits_come_before_what_was_written_after_them(
    trio: tuple[World, list[Person], GroupId],
) -> None:
    """Cy slept through three epochs; only Bob is left to tell."""
    world, (ada, bob, cy), group = trio
    away(world, cy)
    for n in range(3):
        ada.send(group, f"before {n}")
        ada.ask(c.UpdateKey(group))
        world.settle(1)
    ada.send(group, "after")
    world.settle(1)
    away(world, ada)
    world.link(bob, cy)
    world.settle(4)
    assert cy.view(group).epoch == bob.view(group).epoch
    assert cy.read(group) == ["before 0", "before 1", "before 2", "after"]


def test_members_who_know_the_same_send_each_other_nothing(
    trio: tuple[World, list[Person], GroupId],
) -> None:
    world, (ada, bob, cy), group = trio
    for person in (ada, bob, cy):
        person.send(group, f"I am {person.name}")
    world.link(ada, bob, cy)
    world.settle(3)
    world.verdicts.clear()
    unlink(ada, bob, cy)
    world.link(ada, bob, cy)
    world.settle(5)
    assert world.verdicts == []


def test_newcomer_gets_nothing_from_before_it_and_everything_since(world: World) -> None:
    ada, bob, cy, dan = world.friends("Ada", "Bob", "Cy", "Dan")
    group = world.tea([ada, bob, cy])
    ada.send(group, "of old")
    world.settle(1)
    ada.invite(group, dan)
    away(world, cy)
    world.settle(1)
    dan.ask(c.Join(group))
    ada.send(group, "welcome")
    ada.ask(c.UpdateKey(group))
    ada.send(group, "new keys")
    away(world, cy, dan)  # Dan is in, and has none of these; Bob has
    world.settle(2)
    away(world, ada, cy)
    world.link(bob, dan)
    world.settle(4)
    assert dan.read(group) == ["welcome", "new keys"]
    assert not dan.engine._core.messages.take_parked(group)  # nothing that it cannot read
    assert not [verdict for _, _, verdict in world.verdicts if isinstance(verdict, v.Rejected)]


def test_removed_member_learns_it_from_anybody_and_gets_no_message(
    trio: tuple[World, list[Person], GroupId],
) -> None:
    world, (ada, bob, cy), group = trio
    away(world, cy)
    ada.send(group, "for Cy too")
    world.settle(1)
    ada.ask(c.RemoveMember(group, cy.identity))
    ada.send(group, "not for Cy")
    world.settle(1)
    away(world, ada)
    world.verdicts.clear()
    world.link(bob, cy)
    world.settle(4)
    assert cy.view(group).status is v.GroupStatus.REMOVED
    assert paths(cy, group) == []


def test_more_than_one_answer_holds_comes_in_several(
    trio: tuple[World, list[Person], GroupId], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "MESSAGES", 10)
    world, (ada, bob, cy), group = trio
    away(world, cy)
    for n in range(35):
        ada.send(group, str(n))
    world.settle(1)
    away(world, ada)
    world.link(bob, cy)
    world.settle(20)
    assert cy.read(group) == [str(n) for n in range(35)]


def test_ciphertexts_fit_the_budget_and_the_oldest_go(
    trio: tuple[World, list[Person], GroupId], monkeypatch: pytest.MonkeyPatch
) -> None:
    world, (ada, bob, _), group = trio
    monkeypatch.setattr(catch_up, "CIPHERTEXTS_OF_A_GROUP", 4096)
    monkeypatch.setattr(catch_up, "TRIM_EVERY", 2048)
    for n in range(40):
        ada.send(group, f"{n}")
        world.settle(1)
    for person in (ada, bob):
        kept = person.engine._core.catch_up.kept(group, ada.device, 0, 1 << 40, limit=100)
        assert sum(one.size for one in kept) <= 4096 + 2048 + 512
        assert kept[-1].sequence == 40
        assert kept[0].sequence > 20


def test_ask_by_parcel_is_answered_by_parcels(world: World) -> None:
    """Two who are never linked: what one lacks is small, and the relay carries it."""
    ada, bob, cy = world.friends("Ada", "Bob", "Cy")
    group = world.tea([ada, bob, cy])
    away(world, cy)
    ada.send(group, "by relay")
    world.settle(1)
    away(world, ada)
    cy.engine._catch_up._asks[group, bob.device] = world.now
    cy.ask(c.Tick())
    world.settle(4)
    assert cy.read(group) == ["by relay"]


def test_links_that_come_up_together_are_not_all_asked_for_the_same(world: World) -> None:
    people = world.friends("Ada", "Bob", "Cy", "Dan", "Eve")
    group = world.tea(people)
    eve = people[-1]
    away(world, eve)
    for n in range(20):
        people[0].send(group, str(n))
    world.settle(1)
    away(world, people[0])
    world.verdicts.clear()
    world.link(*people[1:])
    world.settle(5)
    assert eve.read(group) == [str(n) for n in range(20)]
    handed = [verdict for _, to, verdict in world.verdicts if to == "Eve"]
    assert len(handed) < 2 * 20  # three members had them


@pytest.mark.parametrize("suite", [mls_rs.CLASSIC])
def test_newcomer_is_introduced_by_others_when_its_inviter_is_gone(
    world: World, suite: int
) -> None:
    ada, bob, cy, dan = (world.person(name) for name in ("Ada", "Bob", "Cy", "Dan"))
    for person in (bob, cy, dan):
        ada.knows(person)
        person.knows(ada)
    group = ada.create("tea", suite, bob, cy)
    world.settle(1)
    for person in (bob, cy):
        person.ask(c.Join(group))
    world.settle(2)
    ada.invite(group, dan)
    away(world, dan)
    world.settle(1)
    # Of what follows the Welcome, nothing arrives before Ada is gone.
    parcels = iter(world.take(ada, dan))
    while not dan.ask(c.ListRequests()) and not dan.ask(c.ListGroups()):
        dan.ask(d.Arrived(next(parcels), "direct", ada.device))
    dan.ask(c.Join(group))
    assert dan.engine._core.people.hybrid_key(cy.device) is None
    away(world, ada)
    bob.knows(dan)  # the two met
    dan.knows(bob)
    world.link(bob, dan)
    world.settle(3)
    assert dan.engine._core.people.hybrid_key(cy.device) is not None


def test_commits_that_fill_more_than_one_answer_all_come(
    trio: tuple[World, list[Person], GroupId], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "COMMITS", 3)
    world, (ada, bob, cy), group = trio
    away(world, cy)
    for _ in range(10):
        ada.ask(c.UpdateKey(group))
        world.settle(1)
    away(world, ada)
    world.link(bob, cy)
    world.settle(20)
    assert cy.view(group).epoch_id == bob.view(group).epoch_id


def test_member_who_was_blocked_gets_commits_and_no_message(
    trio: tuple[World, list[Person], GroupId],
) -> None:
    """The group must not fall apart; for the rest Bob is away to Cy."""
    world, (ada, bob, cy), group = trio
    away(world, cy)
    ada.send(group, "hello")
    ada.ask(c.UpdateKey(group))
    world.settle(1)
    bob.ask(c.Block(cy.identity))
    away(world, ada)
    world.link(bob, cy)
    world.settle(3)
    assert paths(cy, group) == []
    assert cy.view(group).epoch == bob.view(group).epoch
    assert not [ready for ready in bob.summaries if ready.device == cy.device]


def test_of_many_who_know_more_a_few_are_asked(world: World) -> None:
    people = world.friends(*(f"p{n}" for n in range(8)))
    group = world.tea(people)
    first, *others = people
    first.summaries.clear()
    first.ask(d.LinkUp(others[0].device, others[0].ask(d.OwnHello("127.0.0.1:1"))))
    world.settle(1)
    core, asked = first.engine._core, first.engine._catch_up._asked
    asked.clear()
    for _ in range(3):
        core.begin_batch(world.now)
        core.ahead.update((group, other.device) for other in others)
        with core.db.transaction():
            first.engine._catch_up.flush()
    assert len(asked) == catch_up.ASKED_AT_ONCE
    assert (group, others[0].device) in asked  # a link is there


def test_nobody_outside_the_group_is_asked(
    trio: tuple[World, list[Person], GroupId],
) -> None:
    world, (ada, *_), group = trio
    eve = world.person("Eve")
    core = ada.engine._core
    core.begin_batch(world.now)
    core.ahead.add((group, eve.device))
    with core.db.transaction():
        ada.engine._catch_up.flush()
    assert (group, eve.device) not in ada.engine._catch_up._asked
    assert not core.outbox.has_due(eve.device, world.now)


def test_stranger_who_carries_a_message_is_not_asked_for_more(
    trio: tuple[World, list[Person], GroupId],
) -> None:
    world, (ada, bob, _), group = trio
    eve = world.person("Eve")
    ada.send(group, "taken on the way")
    (parcel,) = world.take(ada, bob)
    assert bob.ask(d.Arrived(parcel, "direct", eve.device)) == v.Accepted()
    world.settle(5)
    assert paths(bob, group) == [("taken on the way", "carried")]
    assert (group, eve.device) not in bob.engine._catch_up._asked


def test_peer_that_comes_and_goes_delays_nobody_for_long(
    trio: tuple[World, list[Person], GroupId],
) -> None:
    world, (ada, bob, cy), group = trio
    for _ in range(200):
        world.link(bob, cy)
        bob.ask(d.LinkDown(cy.device))
    ada.ask(d.LinkUp(bob.device, bob.ask(d.OwnHello("127.0.0.1:1"))))
    bob.ask(d.LinkUp(ada.device, ada.ask(d.OwnHello("127.0.0.1:1"))))
    due = bob.engine._catch_up._asks[group, ada.device]
    assert due <= world.now + catch_up.LONGEST_SPACING_S


def test_whoever_a_lost_branch_removed_asks_when_a_member_does(
    trio: tuple[World, list[Person], GroupId],
) -> None:
    """Cy was removed, as it thinks; Bob's summary shows that Bob still counts on it."""
    world, (ada, bob, cy), group = trio
    away(world, bob)
    ada.ask(c.RemoveMember(group, cy.identity))
    world.settle(1)
    assert cy.view(group).status is v.GroupStatus.REMOVED
    away(world, ada)
    cy.summaries.clear()
    world.link(bob, cy)
    world.settle(7)
    assert cy.engine._catch_up._asked.keys() == {(group, bob.device)}


def test_more_messages_than_keys_are_skipped_come_from_the_oldest_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """MLS skips 1,024 keys of one sender at most."""
    monkeypatch.setattr(serving, "MESSAGES", 300)
    world = World(None)
    ada, bob, cy = people = world.friends("Ada", "Bob", "Cy")
    group = world.tea(people)
    away(world, cy)
    for n in range(1350):
        ada.send(group, str(n))
        if n % 450 == 449:
            world.settle()
    away(world, ada)
    world.link(bob, cy)
    world.settle(15)
    read = [message.text for message in cy.ask(c.ReadMessages("all", group, limit=3000))]
    assert read == [str(n) for n in range(1350)]
