"""Commits, headers, statements and proofs that an insider makes up: told apart, and bounded."""

from __future__ import annotations

import os

import mls_rs
import pytest

from identity.signing import sign
from node.engine import commands as c
from node.engine import values as v
from node.engine.groups.commits import FORK_COMMITS, SIBLINGS
from node.engine.groups.epochs import commit_hash
from schemas import limits
from schemas.group_records import CommitHeader, MemberRef, Statement
from schemas.ids import CommitHash, EpochId, GroupId, IntentId, ParcelId
from schemas.parcels import CommitContent, Content, HeadsContent, ParcelBody
from schemas.records import Signed, SignedType
from tests.node.engine.groups.test_healing import one_group, told
from tests.node.engine.test_floods import forged
from tests.node.engine.test_hostile import reopen
from tests.node.engine.world import Person, World

K = mls_rs.CLASSIC


def gives(world: World, person: Person, group: GroupId, content: Content) -> v.Verdict:
    body = ParcelBody(ParcelId(bytes(16)), content, group)
    return forged(person, world, int.from_bytes(os.urandom(8), "big"), body)


def header_of(
    mal: Person,
    group: GroupId,
    mls: bytes,
    *,
    parent: CommitHash | None = None,
    epoch: int = 0,
    added: tuple[MemberRef, ...] = (),
    removed: tuple[MemberRef, ...] = (),
    intents: tuple[IntentId, ...] = (),
) -> Signed:
    row = mal.engine._core.group(group)
    header = CommitHeader(
        commit_hash(mls),
        parent or row.head,
        group,
        epoch or row.epoch + 1,
        mal.device,
        added,
        removed,
        intents,
    )
    return sign(SignedType.COMMIT_HEADER, mal.engine.device, header.encode())


def stated(
    mal: Person, group: GroupId, commit: CommitHash, number: int, epoch_id: bytes = bytes(32)
) -> Signed:
    statement = Statement(group, number, commit, EpochId(epoch_id))
    return sign(SignedType.STATEMENT, mal.engine.device, statement.encode())


def sibling(mal: Person, group: GroupId) -> bytes:
    """A good commit of hers on where she stands, which she does not follow herself."""
    pending = mal.engine._core.mls_group(group).commit(now=int(mal.world.now))
    return bytes(pending.message)


def honest_go_on(world: World, group: GroupId, *people: Person) -> None:
    """They stand in one epoch and talk. Whoever said by its highest number that it stands somewhere
    else has no vote with them, and one with itself alone: it may end on a branch of its own."""
    views = [person.view(group) for person in people]
    assert {view.status for view in views} == {v.GroupStatus.ACTIVE}
    assert len({view.epoch_id for view in views}) == 1
    speaker, *others = people
    speaker.send(group, "we go on")
    world.settle()
    assert [person.read(group)[-1] for person in others] == ["we go on"] * len(others)


def test_rule_breaking_commit_is_no_branch_for_anybody(
    world: World,
    tea: tuple[Person, Person, Person, Person, GroupId],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A removal wins ties, and many say that they stand on it: it is none all the same."""
    ada, bob, dan, mal, group = tea
    world.deliver = lambda sender, recipient: False
    with monkeypatch.context() as patch:
        patch.setattr("node.engine.groups.authority.authorise", lambda *_: None)
        mal.ask(c.RemoveMember(group, dan.identity))
    ada.ask(c.UpdateKey(group))
    world.deliver = lambda sender, recipient: True
    world.settle(20)
    rosters = {frozenset(m.name for m in p.view(group).members) for p in (ada, bob, dan)}
    assert rosters == {frozenset({"ada", "bob", "dan", "mal"})}
    assert len({person.view(group).epoch_id for person in (ada, bob, dan)}) == 1
    assert ada.view(group).epoch_id != mal.view(group).epoch_id


def test_lying_header_does_not_shut_out_the_commit_it_lies_about(
    world: World, tea: tuple[Person, Person, Person, Person, GroupId]
) -> None:
    ada, bob, dan, mal, group = tea
    world.deliver = lambda sender, recipient: False
    bob.ask(c.UpdateKey(group))
    ada.ask(c.UpdateKey(group))
    content = reopen(dan, world.take(ada, dan)[0]).content
    assert isinstance(content, CommitContent)
    removed = (MemberRef(bob.device, bob.identity),)
    signed = header_of(mal, group, content.mls, removed=removed)
    for person in (bob, dan):
        gives(world, person, group, CommitContent(signed, content.mls))
    world.deliver = lambda sender, recipient: True
    for person in (ada, bob, dan):
        person.engine._core.outbox.pull_in(0.0)
    world.settle(20)
    world.later(10)
    world.settle(20)
    one_group(group, ada, bob, dan, mal)


def test_flood_of_siblings_is_bounded_and_an_honest_commit_wins(
    world: World, tea: tuple[Person, Person, Person, Person, GroupId]
) -> None:
    ada, bob, dan, mal, group = tea
    made = [sibling(mal, group) for _ in range(3 * SIBLINGS)]
    for mls in made:
        gives(world, bob, group, CommitContent(header_of(mal, group, mls), mls))
    known = bob.engine._core.branches.commits(group)
    mine = {commit_hash(mls) for mls in made} & known.keys()
    assert len(mine) <= SIBLINGS + 1, "and the one that was entered"
    ada.ask(c.UpdateKey(group))
    world.settle(20)
    ada.send(group, "on we go")
    world.settle(20)
    assert "on we go" in bob.read()
    assert "on we go" in dan.read()


def test_made_up_orphans_are_bounded_and_keep_nobody_out(
    world: World, tea: tuple[Person, Person, Person, Person, GroupId]
) -> None:
    ada, bob, dan, mal, group = tea
    for number in range(FORK_COMMITS + 50):
        mls = b"no commit %d" % number
        parent = CommitHash(number.to_bytes(32, "big"))
        signed = header_of(mal, group, mls, parent=parent, epoch=limits.COUNTER - 1)
        gives(world, bob, group, CommitContent(signed, mls))
    strange = [c for c in bob.engine._core.branches.commits(group).values() if c.entered is None]
    assert len(strange) <= FORK_COMMITS
    world.deliver = lambda sender, recipient: False
    ada.ask(c.UpdateKey(group))
    bob.ask(c.UpdateKey(group))
    world.deliver = lambda sender, recipient: True
    world.settle(20)
    one_group(group, ada, bob, dan, mal)


def test_heads_of_garbage_spoil_nothing(
    world: World, tea: tuple[Person, Person, Person, Person, GroupId]
) -> None:
    ada, bob, dan, mal, group = tea
    row = mal.engine._core.group(group)
    good = stated(mal, group, row.head, 50, row.epoch_id)
    bad = Signed(b"garbage", bytes(mal.device), bytes(64))
    as_ada = Signed(good.payload, bytes(ada.device), good.signature)
    content = HeadsContent((bad,) * 20, (bad, as_ada, good), ((good, good), (bad, good)))
    assert gives(world, bob, group, content) == v.Accepted()
    statements = bob.engine._core.branches.statements(group)
    assert statements[mal.device].number == 50
    assert not bob.engine._core.branches.equivocators(group)
    ada.ask(c.UpdateKey(group))
    bob.ask(c.UpdateKey(group))
    world.settle(20)
    one_group(group, ada, bob, dan, mal)


def test_equivocation_is_proven_told_and_costs_the_vote(
    world: World, tea: tuple[Person, Person, Person, Person, GroupId]
) -> None:
    ada, bob, dan, mal, group = tea
    one = stated(mal, group, CommitHash(b"1" * 32), 99)
    other = stated(mal, group, CommitHash(b"2" * 32), 99)
    gives(world, bob, group, HeadsContent(statements=(one,)))
    gives(world, bob, group, HeadsContent(statements=(other,)))
    (event,) = told(bob, "equivocation")
    assert (event["member"], event["identity"]) == ("mal", mal.identity.hex())
    assert bob.engine._core.branches.equivocators(group) == {mal.device}
    gives(world, dan, group, HeadsContent(proofs=((one, other),)))
    assert told(dan, "equivocation"), "a proof stands for itself"
    gives(world, ada, group, HeadsContent(proofs=((one, one),)))
    assert not told(ada, "equivocation")


def test_statement_with_the_largest_number_stops_nobody_elses(
    world: World, tea: tuple[Person, Person, Person, Person, GroupId]
) -> None:
    ada, bob, dan, mal, group = tea
    gives(
        world,
        bob,
        group,
        HeadsContent(statements=(stated(mal, group, CommitHash(b"1" * 32), limits.COUNTER),)),
    )
    world.deliver = lambda sender, recipient: False
    for person in (ada, bob, dan):
        person.ask(c.UpdateKey(group))
    world.deliver = lambda sender, recipient: True
    world.settle(30)
    honest_go_on(world, group, ada, bob, dan)


def test_bug_that_an_insider_finds_stops_a_group_and_not_the_node(
    world: World,
    tea: tuple[Person, Person, Person, Person, GroupId],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ada, bob, dan, mal, group = tea
    other = ada.create("other", K, bob)
    world.settle()
    bob.ask(c.Join(other))

    def fail(*_: object, **__: object) -> None:
        raise KeyError("a bug")

    with monkeypatch.context() as patch:
        patch.setattr("node.engine.groups.convergence.choose", fail)
        ada.ask(c.UpdateKey(group))
        bob.ask(c.UpdateKey(group))
        ada.send(other, "all is well here")
        world.settle(5)
        assert bob.read(other) == ["all is well here"]
    ada.ask(c.UpdateKey(group))
    world.settle(20)
    one_group(group, ada, bob, dan, mal)
