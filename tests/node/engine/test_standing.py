"""`members` and `doctor GROUP`: who stands where, and why a group waits, as far as one was told."""

from __future__ import annotations

from pathlib import Path

import pytest

from identity.signing import sign
from node.engine import commands as c
from node.engine import delivery_commands as d
from node.engine import values as v
from node.engine.examine import LATE_S, membership
from node.store.intents import Wish
from schemas.errors import Fault
from schemas.group_records import CommitHeader, Intent, IntentKind, Statement
from schemas.ids import CommitHash, EpochId, GroupId, IntentId
from schemas.records import SignedType
from telemetry.checks import Check
from tests.node.engine.world import Person, World


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def stands(person: Person, group: GroupId) -> dict[str, tuple[int | None, str]]:
    view = person.ask(c.FindGroup(group.hex(), standings=True))
    return {m.name: (m.epoch, str(m.standing)) for m in view.members}


def checks(person: Person, group: GroupId) -> dict[str, Check]:
    found = person.ask(c.ExamineGroup(group))
    assert all(bool(check.fix) or check.ok for check in found), "nothing to do about it"
    return {check.name: check for check in found}


def wrong(person: Person, group: GroupId) -> set[str]:
    return {name for name, check in checks(person, group).items() if not check.ok}


def knows(person: Person, group: GroupId, commit: bytes, parent: bytes, epoch: int) -> CommitHash:
    """A header of another branch has come."""
    found = CommitHash(commit * 32)
    core = person.engine._core
    header = CommitHeader(found, CommitHash(parent), group, epoch, person.device)
    signed = sign(SignedType.COMMIT_HEADER, person.engine.device, header.encode())
    core.branches.add(group, header, signed, None, person.world.now)
    return found


def states(
    person: Person, group: GroupId, commit: CommitHash, *, to: Person, number: int = 1
) -> None:
    """`person` signs that it stands there, and `to` has heard it."""
    statement = Statement(group, (1 << 40) + number, commit, EpochId(bytes(32)))
    signed = sign(SignedType.STATEMENT, person.engine.device, statement.encode())
    to.engine._core.groups.put_statement(person.device, signed, statement)
    to.engine._core.branches.note_statement(person.device, statement)


def test_who_stands_where_as_far_as_was_heard(world: World) -> None:
    ada, bob, cy = world.friends("ada", "bob", "cy")
    group = world.tea([ada, bob, cy])
    for person in (bob, cy):
        person.send(group, "here")
    world.settle(2)
    epoch = ada.view(group).epoch
    assert stands(ada, group) == dict.fromkeys(("ada", "bob", "cy"), (epoch, "here"))

    world.deliver = lambda sender, recipient: cy not in (sender, recipient)
    for _ in range(2):
        bob.ask(c.UpdateKey(group))
        world.settle(5)
    assert stands(ada, group) == {
        "ada": (epoch + 2, "here"),
        "bob": (epoch + 2, "here"),
        "cy": (epoch, "behind"),
    }
    assert wrong(ada, group) == set(), "who is away is behind: that is not wrong"
    assert checks(ada, group)["branches"].detail == "behind: cy"
    assert stands(cy, group)["ada"] == (epoch, "here"), "nothing was heard since"


def test_a_member_that_was_never_heard_is_unknown(world: World) -> None:
    ada, bob = world.friends("ada", "bob")
    group = ada.create("tea", 1, bob)
    assert stands(ada, group)["bob"] == (None, "unknown")
    view = ada.view(group)
    assert {(m.epoch, m.standing) for m in view.members} == {(None, None)}, "nobody asked"


def test_other_branches_are_told_from_ours_and_from_what_is_unknown(world: World) -> None:
    ada, bob = world.friends("ada", "bob")
    group = world.tea([ada, bob])
    row = ada.engine._core.group(group)
    below = knows(ada, group, b"b", row.head, row.epoch + 1)
    states(bob, group, below, to=ada)
    assert stands(ada, group)["bob"] == (row.epoch + 1, "ahead")

    beside = knows(ada, group, b"s", b"p" * 32, row.epoch)
    states(bob, group, beside, to=ada, number=2)
    assert stands(ada, group)["bob"] == (row.epoch, "elsewhere")
    assert wrong(ada, group) >= {"branches"}
    assert "bob" in checks(ada, group)["branches"].detail

    states(ada, group, CommitHash(b"?" * 32), to=bob)
    assert stands(bob, group)["ada"] == (None, "ahead")
    assert "ada" in checks(bob, group)["branches"].detail


def test_headers_that_lead_in_a_circle_end(world: World) -> None:
    ada, bob = world.friends("ada", "bob")
    group = world.tea([ada, bob])
    first = knows(ada, group, b"1", b"2" * 32, 1 << 50)
    knows(ada, group, b"2", b"1" * 32, 1 << 50)
    states(bob, group, first, to=ada)
    assert stands(ada, group)["bob"] == (1 << 50, "elsewhere")


def test_a_wish_that_nobody_carries_is_told_with_whose_turn_it_is(world: World) -> None:
    ada, bob, cy = world.friends("ada", "bob", "cy")
    group = world.tea([ada, bob, cy])
    assert checks(ada, group)["changes"].detail == "none waits to be made"
    wish = Intent(IntentId(b"i" * 16), group, cy.device, IntentKind.LEAVE)
    signed = sign(SignedType.INTENT, cy.engine.device, wish.encode())
    ada.engine._core.intents.add(Wish(wish, signed), world.now)
    told = checks(ada, group)["changes"]
    assert told.ok
    assert told.detail.startswith("cy leaves, since 20")
    assert "first in turn" in told.detail
    world.now += LATE_S + 1
    late = checks(ada, group)["changes"]
    assert not late.ok
    assert "cy" not in late.fix, "who leaves does not commit it"


def test_parcels_that_wait_for_a_commit_are_told(world: World) -> None:
    ada, bob, cy = world.friends("ada", "bob", "cy")
    group = world.tea([ada, bob, cy])
    world.deliver = lambda sender, recipient: cy not in (sender, recipient)
    ada.ask(c.UpdateKey(group))
    world.settle(5)
    bob.send(group, "of an epoch that cy lacks")
    world.hand(bob, cy, world.take(bob, cy))
    assert checks(cy, group)["missing changes"].detail.startswith("1 parcel waits for a change")
    world.now += LATE_S + 1
    assert "missing changes" in wrong(cy, group)
    assert "branches" in wrong(cy, group), "bob's word is of a commit that cy has not heard of"


def test_equivocators_and_the_way_back_are_told(world: World) -> None:
    ada, bob = world.friends("ada", "bob")
    group = world.tea([ada, bob])
    bob.send(group, "here")
    ada.ask(c.UpdateKey(group))
    world.settle(2)
    told = checks(ada, group)
    assert "equivocation" not in told
    assert told["way back"].detail.startswith("2 epochs, to epoch 0 (")
    ada.engine._core.db.run(
        "INSERT INTO equivocations SELECT group_id, device, signed, signed FROM statements"
        " WHERE device = ?",
        bob.device,
    )
    told = checks(ada, group)
    assert not told["equivocation"].ok
    assert "bob" in told["equivocation"].detail


def test_our_messages_that_wait_are_told_by_reason(world: World) -> None:
    ada, bob, cy = world.friends("ada", "bob", "cy")
    group = world.tea([ada, bob, cy])
    assert checks(ada, group)["delivery"].ok
    world.deliver = lambda sender, recipient: recipient is bob
    for text in ("one", "two"):
        ada.send(group, text)
    world.settle(2)
    found = [check for check in ada.ask(c.ExamineGroup(group)) if check.name == "delivery"]
    assert [(check.ok, check.detail.split(":")[0]) for check in found if not check.ok] == [
        (False, "2 messages")
    ]
    assert "cy" in next(check.detail for check in found if not check.ok)

    due = world.take(ada, cy)
    held = ("relay.example:7000#" + "d2" * 32, int(world.now) + 86_400)
    ada.ask(d.ReportOutcomes(tuple(d.Outcome(parcel.id, held=held) for parcel in due)))
    assert "delivery" not in wrong(ada, group), "what a relay keeps is on its way"


def test_a_fork_is_told_while_it_is_decided_and_not_after(world: World) -> None:
    people = ada, bob = world.friends("ada", "bob")
    group = world.tea(people)
    epoch = ada.view(group).epoch
    for person in people:
        person.ask(c.UpdateKey(group))
        person.send(group, "on a branch of my own")
    world.settle()
    (waits,) = [p for p in people if p.view(group).status is v.GroupStatus.SPLIT]
    (other,) = [p for p in people if p is not waits]
    assert stands(waits, group)[other.name] == (epoch + 1, "elsewhere")
    assert wrong(waits, group) == {"membership", "branches"}
    waits.send(group, "kept")
    assert "at once" in checks(waits, group)["delivery"].detail

    world.settle(5)
    other.send(group, "whole")
    world.settle(5)
    world.now += LATE_S
    for person in people:
        assert wrong(person, group) == set(), "what was sealed on the lost branch holds up nobody"
        assert {place for _, place in stands(person, group).values()} == {"here"}


def test_who_waits_to_be_taken_in_again_is_told_what_to_do(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("schemas.limits.SNAPSHOT_EPOCHS", 1)
    people = ada, bob, cy = world.friends("ada", "bob", "cy")
    group = world.tea(people)
    world.deliver = lambda sender, recipient: (sender is cy) == (recipient is cy)
    for _ in range(3):
        for person in (ada, cy):
            person.ask(c.UpdateKey(group))
        bob.send(group, "with ada")
        world.settle(12)
    world.deliver = lambda sender, recipient: sender is not cy
    world.link(*people)
    world.settle(15)

    assert cy.view(group).status is v.GroupStatus.STRANDED
    told = checks(cy, group)
    assert "re-admitted" in told["membership"].detail
    assert "on another branch: ada" in told["branches"].detail
    assert told["changes"].detail.startswith("cy comes back in, since")
    assert "cy" not in told["changes"].detail.partition("since")[2], "not its own turn"

    world.deliver = lambda sender, recipient: True
    world.settle(60)
    for person in people:
        assert wrong(person, group) == set(), "what cy said before is still held against it"
        person.send(group, "all here?")
    world.settle(2)
    for person in people:  # cy may have renewed its key since
        assert {place for _, place in stands(person, group).values()} <= {"here", "behind"}


@pytest.mark.parametrize("status", list(v.GroupStatus))
def test_each_status_is_told_in_words(status: v.GroupStatus) -> None:
    check = membership(status, GroupId(bytes(16)), accepted=True)

    assert check.ok is (status is v.GroupStatus.ACTIVE)
    assert bool(check.fix) is not check.ok
    assert " " in check.detail
    waiting = membership(status, GroupId(bytes(16)), accepted=False)
    assert not waiting.ok
    assert "join 000000000000" in waiting.fix


def test_of_no_group_there_is_nothing_to_tell(world: World) -> None:
    (ada,) = world.friends("ada")
    with pytest.raises(Fault, match="no group"):
        ada.ask(c.ExamineGroup(GroupId(bytes(16))))
