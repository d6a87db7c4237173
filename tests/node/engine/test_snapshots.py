"""The state before a commit stays, for a better sibling of it; also before one of our own."""

from __future__ import annotations

import mls_rs

from node.engine import commands as c
from schemas import limits
from schemas.ids import GroupId
from schemas.parcels import CommitContent
from tests.node.engine.test_hostile import reopen
from tests.node.engine.world import Person, World


def two(world: World) -> tuple[Person, Person, GroupId]:
    ada, bob = people = world.friends("ada", "bob")
    return ada, bob, world.tea(people)


def test_a_sibling_of_our_own_commit_can_still_be_entered(world: World) -> None:
    """MLS cannot take back its own commit: without the snapshot Ada could never come over."""
    ada, bob, group = two(world)
    left = ada.view(group).epoch_id
    for person in (ada, bob):  # at once
        person.ask(c.UpdateKey(group))
    (parcel,) = world.take(bob, ada)
    content = reopen(ada, parcel).content
    assert isinstance(content, CommitContent)
    kept = ada.engine._core.groups.snapshot_state(group, left)
    assert kept is not None, "there is no way back"
    before = ada.engine._core.mls.load_group(group, *kept)
    assert isinstance(before.process(content.mls), mls_rs.Commit)
    bobs = bob.engine._core.mls_group(group)
    assert before.export_secret(b"x", b"", 32) == bobs.export_secret(b"x", b"", 32)


def test_snapshots_are_bounded(world: World) -> None:
    ada, bob, group = two(world)
    for _ in range(limits.SNAPSHOT_EPOCHS + 20):
        ada.ask(c.UpdateKey(group))
        world.hand(ada, bob, world.take(ada, bob))
    for person in (ada, bob):
        count, size = person.engine._core.db.row("SELECT count(*), sum(bytes) FROM snapshots")
        assert 0 < count <= limits.SNAPSHOT_EPOCHS
        assert size <= limits.SNAPSHOT_BYTES
    assert ada.send(group, "goes on")
    world.settle()
    assert bob.read() == ["goes on"]
