"""Honest members who cannot follow are taken in again, whatever happens in between; and what else
a review of convergence found that no attack is needed for."""

from __future__ import annotations

from collections.abc import Callable

import mls_rs
import pytest

from node.engine import commands as c
from node.engine import values as v
from node.engine.core import group_info
from node.store.intents import Wish
from schemas.group_records import IntentKind, MemberRef
from schemas.ids import GroupId
from schemas.parcels import HeadsContent
from tests.node.engine.groups.test_bad_branches import gives
from tests.node.engine.groups.test_healing import apart, one_group, told
from tests.node.engine.world import Person, World


def strays(world: World, group: GroupId, stray: Person, others: list[Person]) -> None:
    """Alone on a branch that loses, three epochs deep."""
    world.deliver = apart(others, [stray])
    for number in range(3):
        for person in (others[0], stray):
            person.ask(c.UpdateKey(group))
            person.send(group, f"{person.name} {number}")
            world.settle(12)


def readmissions(person: Person, group: GroupId) -> list[Wish]:
    """Wishes to be admitted again that this member knows of."""
    wishes = person.engine._core.intents.open(group)
    return [wish for wish in wishes if wish.intent.kind is IntentKind.READMIT]


def until(world: World, happened: Callable[[], bool]) -> None:
    for _ in range(200):
        if happened():
            return
        world.settle(0.5)
    raise AssertionError("it never happened")


def carry_readmission(world: World, group: GroupId, cy: Person, ada: Person, bob: Person) -> Person:
    """Who carried cy's wish: its link to cy goes before the Welcome is handed over."""
    world.deliver = lambda sender, recipient: True
    world.link(ada, bob, cy)
    until(world, lambda: bool(readmissions(ada, group) or readmissions(bob, group)))
    world.deliver = lambda sender, recipient: cy not in (sender, recipient)
    until(world, lambda: welcomes(ada) + welcomes(bob) > 0)
    world.settle(3)
    return ada if welcomes(ada) else bob


def welcomes(person: Person) -> int:
    """How many wait to be handed over."""
    sql = "SELECT count(*) FROM payloads WHERE kind = 'welcome'"
    return int(person.engine._core.db.value(sql, default=0))


def test_readmission_of_who_can_follow_again_puts_nobody_out(world: World) -> None:
    """The wish was carried when it was not needed any more."""
    ada, bob, dan = people = world.friends("ada", "bob", "dan")
    group = world.tea(people)
    engine = dan.engine
    core = engine._core
    core.begin_batch(world.now)
    with engine._db.transaction():
        row = core.group(group)
        engine._convergence._intents.ask_readmission(row, [ada.device, bob.device], row.epoch)
    epoch = row.epoch
    world.settle(30)
    assert ada.view(group).epoch > epoch, "somebody carried it"
    one_group(group, *people)
    assert dan.view(group).accepted
    assert not told(dan, "removed")


def test_readmission_is_asked_for_again_when_its_committer_is_gone_with_the_welcome(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("schemas.limits.SNAPSHOT_EPOCHS", 1)
    ada, bob, cy = people = world.friends("ada", "bob", "cy")
    group = world.tea(people)
    strays(world, group, cy, [ada, bob])
    gone = carry_readmission(world, group, cy, ada, bob)
    other = bob if gone is ada else ada
    world.deliver = lambda sender, recipient: gone not in (sender, recipient)
    for _ in range(4):
        world.link(other, cy)
        world.settle(60)
    assert cy.view(group).status is v.GroupStatus.ACTIVE
    assert cy.view(group).epoch_id == other.view(group).epoch_id


def test_welcome_outlives_what_its_reader_says_on_the_old_branch(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("schemas.limits.SNAPSHOT_EPOCHS", 1)
    ada, bob, cy = people = world.friends("ada", "bob", "cy")
    group = world.tea(people)
    strays(world, group, cy, [ada, bob])
    carry_readmission(world, group, cy, ada, bob)
    world.deliver = lambda sender, recipient: recipient is not cy  # its own parcels come first
    cy.send(group, "still here")
    world.link(*people)
    world.settle(5)
    assert welcomes(ada) + welcomes(bob) == 1
    world.deliver = lambda sender, recipient: True
    world.link(*people)
    world.settle(120)
    one_group(group, *people)
    assert "still here" in ada.read()


def test_readmission_to_a_branch_that_is_many_epochs_ahead(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More than an intent stays fresh for, counted from where its author is."""
    monkeypatch.setattr("node.engine.groups.rules.FRESH_EPOCHS", 8)
    ada, bob, cy = people = world.friends("ada", "bob", "cy")
    group = world.tea(people)
    world.deliver = apart([ada, bob], [cy])
    cy.ask(c.UpdateKey(group))
    cy.send(group, "from cy")
    for _ in range(12):
        ada.ask(c.UpdateKey(group))
        world.settle()
    world.settle(12)
    ada.send(group, "we went on")
    world.settle(3)
    world.later(8 * 86_400)
    cy.restart()
    world.later(7200)  # its first sweep: snapshots are too old
    world.deliver = lambda sender, recipient: True
    world.link(*people)
    world.settle(60)
    one_group(group, *people)
    assert "from cy" in ada.read()


def test_leave_of_somebody_many_epochs_behind(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("node.engine.groups.rules.FRESH_EPOCHS", 8)
    ada, bob, dan = people = world.friends("ada", "bob", "dan")
    group = world.tea(people)
    world.deliver = apart([ada, bob], [dan])
    for _ in range(12):
        ada.ask(c.UpdateKey(group))
        world.settle()
    world.settle(3)
    dan.ask(c.Leave(group))
    world.deliver = lambda sender, recipient: True
    world.link(*people)
    world.settle(120)
    assert "dan" not in {member.name for member in ada.view(group).members}
    one_group(group, ada, bob)


def test_stranded_member_asks_after_a_crash_though_there_is_no_fork(
    world: World, tea: tuple[Person, Person, Person, Person, GroupId]
) -> None:
    """Most stand on a commit ahead whose bytes nobody gives it."""
    ada, bob, dan, mal, group = tea
    world.deliver = lambda sender, recipient: dan not in (sender, recipient)
    ada.ask(c.UpdateKey(group))
    world.settle(2)
    for person in (ada, bob, mal):
        person.send(group, "here I stand")
    world.settle(2)
    core = bob.engine._core
    header = core.catch_up.header(group, core.group(group).head)
    assert header is not None
    statements = tuple(signed for _, signed in core.catch_up.statements(group))
    gives(world, dan, group, HeadsContent((header,), statements))
    assert dan.view(group).status is v.GroupStatus.STRANDED
    assert not readmissions(dan, group), "not at first sight"
    dan.restart()
    world.later(600)
    assert readmissions(dan, group)


def test_what_was_said_without_a_removed_member_is_never_shown_to_them(world: World) -> None:
    """The removal is lost with its branch, and made again before what was said after it."""
    people = ada, bob, cy, dan = world.friends("ada", "bob", "cy", "dan")
    group = world.tea(people)
    world.deliver = apart([ada], [bob, cy, dan])
    ada.ask(c.RemoveMember(group, dan.identity))
    secret = ada.send(group, "now that dan is gone")
    assert "dan" not in ada.states(secret)
    for _ in range(2):
        bob.ask(c.UpdateKey(group))
        world.settle(15)
        for person in (bob, cy, dan):
            person.send(group, f"{person.name} is here")
    world.deliver = lambda sender, recipient: True
    world.link(*people)
    world.settle(60)
    assert dan.view(group).status is v.GroupStatus.REMOVED
    assert "now that dan is gone" in bob.read()
    assert "now that dan is gone" not in dan.read()


def test_lost_forks_of_long_ago_do_not_shut_out_a_new_one(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two honest people often change the group at once, more often than there is room for."""
    monkeypatch.setattr("node.engine.groups.commits.FORK_COMMITS", 4)
    ada, bob = people = world.friends("ada", "bob")
    group = world.tea(people)
    for _ in range(20):
        world.deliver = lambda sender, recipient: False
        for person in people:
            person.ask(c.UpdateKey(group))
        world.deliver = lambda sender, recipient: True
        world.settle(1.5)
    one_group(group, *people)
    ada.send(group, "can you read that?")
    world.settle()
    assert bob.read() == ["can you read that?"]


def test_nothing_is_sent_to_a_group_before_its_invitation_is_accepted(world: World) -> None:
    ada, bob, eve = world.friends("ada", "bob", "eve")
    group = ada.create("tea", mls_rs.CLASSIC, bob, eve)
    world.settle()
    bob.ask(c.Join(group))
    world.settle(2)
    world.deliver = lambda sender, recipient: sender is not eve
    for person in (ada, bob):
        person.ask(c.UpdateKey(group))
    world.settle(20)
    assert eve.view(group).epoch_id == ada.view(group).epoch_id, "it follows"
    assert not eve.engine._core.db.rows("SELECT kind FROM payloads WHERE group_id = ?", group)


def test_who_was_forgotten_and_comes_back_contradicts_nobody(world: World) -> None:
    """Eve knows neither of them and never accepted; she is removed, and invited anew."""
    ada, bob, eve = (world.person(name) for name in ("ada", "bob", "eve"))
    ada.knows(bob, eve)
    bob.knows(ada, eve)
    group = ada.create("tea", mls_rs.CLASSIC, bob, eve)
    world.settle()
    bob.ask(c.Join(group))
    world.settle(2)

    def fork() -> None:
        world.deliver = lambda sender, recipient: False
        for person in (ada, bob):
            person.ask(c.UpdateKey(group))
        world.deliver = lambda sender, recipient: True
        world.settle(20)

    fork()
    ada.ask(c.RemoveMember(group, eve.identity))
    world.settle(20)
    ada.invite(group, eve)
    world.settle(20)
    eve.ask(c.Join(group))
    world.settle(20)
    fork()
    eve.send(group, "hello")
    world.settle(20)
    assert ada.read() == bob.read() == ["hello"]
    assert not told(ada, "equivocation")
    assert not told(bob, "equivocation")


def test_who_lacks_somebodys_keys_does_not_invite_them(world: World) -> None:
    """No Welcome could be sealed to them (found by joins-during-a-fork, 4 nodes, seed 53)."""
    ada, bob = world.friends("ada", "bob")
    eve = world.person("eve")
    ada.knows(eve)
    eve.knows(ada)
    group = world.tea([ada, bob])
    package = eve.key_package(mls_rs.CLASSIC)
    core = bob.engine._core
    row = core.group(group)
    intents = bob.engine._convergence._intents
    wish = ada.engine._convergence._intents.make(
        ada.engine._core.group(group),
        IntentKind.ADD,
        members=[MemberRef(eve.device, eve.identity)],
        key_packages=[package],
    )
    info = group_info(core.mls_group(group))
    assert not intents.plan(row, [wish], info).wishes
    bob.knows(eve)
    assert intents.plan(row, [wish], info).wishes
