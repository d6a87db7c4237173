"""What an insider who is no admin tries on others: with claims, with wishes that are not hers, and
with many siblings. (All found by a review of convergence.)"""

from __future__ import annotations

import os

import mls_rs
import pytest

from node.engine import commands as c
from node.engine import values as v
from node.engine.groups.authority import encode_intents
from node.engine.groups.commits import SIBLINGS
from node.engine.groups.epochs import commit_hash
from schemas import limits
from schemas.group_records import MemberRef
from schemas.ids import CommitHash, GroupId
from schemas.parcels import CommitContent, HeadsContent, IntentContent
from tests.node.engine.groups.test_bad_branches import gives, header_of, sibling, stated
from tests.node.engine.groups.test_healing import one_group, told
from tests.node.engine.groups.test_readmission import readmissions, strays, until
from tests.node.engine.world import Person, World

Tea = tuple[Person, Person, Person, Person, GroupId]


def names(person: Person, group: GroupId) -> set[str]:
    return {member.name for member in person.view(group).members}


def ref(person: Person) -> MemberRef:
    return MemberRef(person.device, person.identity)


def claim(mal: Person, group: GroupId, *removed: Person) -> HeadsContent:
    """The header of a commit that nobody ever sees, and her word that she stands on it."""
    mls = os.urandom(32)
    header = header_of(mal, group, mls, removed=tuple(ref(person) for person in removed))
    return HeadsContent((header,), (stated(mal, group, commit_hash(mls), limits.COUNTER),))


def test_claim_of_no_admin_removes_nobody(world: World, tea: Tea) -> None:
    ada, bob, dan, mal, group = tea
    world.deliver = lambda sender, recipient: False
    sent = bob.send(group, "on its way")
    world.deliver = lambda sender, recipient: True
    content = claim(mal, group, ada, bob, dan)
    for person in (ada, bob, dan):
        gives(world, person, group, content)
    world.settle(3)
    assert {person.view(group).status for person in (ada, bob, dan)} == {v.GroupStatus.ACTIVE}
    assert set(bob.states(sent).values()) == {"delivered"}
    ada.ask(c.UpdateKey(group))
    world.settle()
    one_group(group, ada, bob, dan, mal)


def test_claim_on_the_head_strands_nobody_nor_saves_its_author(world: World, tea: Tea) -> None:
    ada, bob, dan, mal, group = tea
    content = claim(mal, group)
    for person in (ada, bob, dan):
        gives(world, person, group, content)
    world.settle(5)
    for person in (ada, bob, dan):
        assert not told(person, "group-waits")
    ada.ask(c.RemoveMember(group, mal.identity))
    world.settle(30)
    one_group(group, ada, bob, dan)


def test_commit_that_names_a_leave_and_does_not_do_it_swallows_nothing(
    world: World, tea: Tea
) -> None:
    ada, bob, dan, mal, group = tea
    dan.ask(c.Leave(group))
    world.settle()  # everybody heard of it; nobody is due to carry it yet
    core = mal.engine._core
    (wish,) = core.intents.open(group)
    pending = core.mls_group(group).commit(
        authenticated_data=encode_intents((wish.signed,)), now=int(world.now)
    )
    signed = header_of(mal, group, pending.message, intents=(wish.intent.id,))
    content = CommitContent(signed, pending.message, (wish.signed,))
    world.deliver = lambda sender, recipient: mal not in (sender, recipient)
    for person in (ada, bob, dan):
        assert gives(world, person, group, content) == v.Accepted()
    world.settle(120)
    assert names(ada, group) == names(bob, group) == {"ada", "bob", "mal"}


def test_wish_that_a_junk_commit_names_is_carried_all_the_same(world: World, tea: Tea) -> None:
    ada, bob, dan, mal, group = tea
    world.deliver = lambda sender, recipient: (sender, recipient) == (dan, mal)
    dan.ask(c.Leave(group))
    world.settle()
    (wish,) = mal.engine._core.intents.open(group)
    junk, parent = os.urandom(100), CommitHash(os.urandom(32))
    signed = header_of(mal, group, junk, parent=parent, epoch=9, intents=(wish.intent.id,))
    for person in (ada, bob):
        gives(world, person, group, CommitContent(signed, junk, (wish.signed,)))
    world.deliver = lambda sender, recipient: mal not in (sender, recipient)
    for _ in range(2):
        world.link(ada, bob, dan)
        world.settle(60)
    assert names(ada, group) == names(bob, group) == {"ada", "bob", "mal"}


def test_siblings_do_not_shut_out_the_one_that_honest_members_went_on_from(
    world: World, tea: Tea
) -> None:
    ada, bob, dan, mal, group = tea
    world.deliver = lambda sender, recipient: False
    made = sorted((sibling(mal, group) for _ in range(SIBLINGS + 2)), key=commit_hash)
    *low, high = [CommitContent(header_of(mal, group, mls), mls) for mls in made]
    for person in (bob, dan):
        gives(world, person, group, high)  # which has the highest hash
    for content in low:
        gives(world, ada, group, content)
    for person in (ada, bob, dan):
        person.ask(c.Tick())
    world.deliver = lambda sender, recipient: mal not in (sender, recipient)
    world.now += 12
    bob.ask(c.UpdateKey(group))
    world.settle(5)
    bob.send(group, "on we go")
    for _ in range(3):
        world.settle(30)
        world.link(ada, bob, dan)
    assert ada.read() == dan.read() == ["on we go"]
    assert len({person.view(group).epoch_id for person in (ada, bob, dan)}) == 1


def test_lie_about_when_a_member_was_added_withholds_nothing_from_it(
    world: World, tea: Tea
) -> None:
    ada, bob, dan, mal, group = tea
    parent = CommitHash(os.urandom(32))
    lie = header_of(mal, group, os.urandom(32), parent=parent, epoch=2**40, added=(ref(dan),))
    for person in (ada, bob):
        gives(world, person, group, HeadsContent(headers=(lie,)))
    world.settle(2)
    world.deliver = lambda sender, recipient: dan not in (sender, recipient)
    ada.send(group, "dan was away")
    ada.ask(c.UpdateKey(group))
    world.settle(12)
    ada.send(group, "dan was away longer")
    world.settle(3)
    world.deliver = lambda sender, recipient: ada not in (sender, recipient)  # gone for good
    for _ in range(3):
        world.link(bob, dan)
        world.settle(30)
    assert dan.read() == ["dan was away", "dan was away longer"]


def test_old_key_package_beside_anothers_wish_keeps_nobody_out(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mal was faster with cy's wish than cy, and put a KeyPackage beside it that cy used up."""
    monkeypatch.setattr("schemas.limits.SNAPSHOT_EPOCHS", 1)
    people = ada, mal, cy = world.friends("ada", "mal", "cy")
    group = ada.create("tea", mls_rs.CLASSIC, mal)
    old = cy.key_package(mls_rs.CLASSIC)
    ada.ask(c.Invite(group, (cy.identity,), (old,), False))
    world.settle()
    for person in (mal, cy):
        person.ask(c.Join(group))
    world.settle(2)
    strays(world, group, cy, [ada, mal])
    world.later(9 * 86_400)  # KeyPackages that were used are gone
    world.deliver = lambda sender, recipient: sender is not cy or not readmissions(cy, group)
    world.link(*people)
    until(world, lambda: bool(readmissions(cy, group)))
    (wish,) = readmissions(cy, group)
    gives(world, ada, group, IntentContent(wish.signed, (old,)))
    world.deliver = lambda sender, recipient: True
    world.link(*people)
    world.settle(60)
    one_group(group, *people)
