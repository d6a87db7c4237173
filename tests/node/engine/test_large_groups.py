"""Groups to 250 devices: trees in chunks beside the Welcome, in whatever order they come."""

from __future__ import annotations

import hashlib
import itertools
import random
from pathlib import Path

import apsw
import mls_rs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node.engine import commands as c
from node.engine import values as v
from node.engine.groups import welcome
from node.engine.groups.membership import INVITED_AT_ONCE
from node.engine.groups.welcome import split_tree
from node.engine.receipts import LARGE_GROUP
from node.store.database import MIGRATIONS, Database
from node.store.trees import CHUNK_S, TreeStore
from schemas import limits
from schemas.errors import Fault
from schemas.ids import GroupId, ParcelId
from schemas.parcels import Parcel, ParcelBody, TreeChunkContent, WelcomeContent
from storage.sqlite import migrate, open_database
from tests.node.engine.test_hostile import code, reopen, resealed, verdict
from tests.node.engine.world import Person, World

K = mls_rs.CLASSIC


@pytest.fixture
def chunked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any Welcome is too large for its tree, and a chunk holds little."""
    monkeypatch.setattr("node.engine.groups.committing.WELCOME_WITH_TREE", 0)
    monkeypatch.setattr(welcome, "CHUNK", 256)


def chunk(person: Person, world: World, group: GroupId, data: bytes) -> Parcel:
    parcel = ParcelId(hashlib.sha256(data).digest()[:16])
    body = ParcelBody(parcel, TreeChunkContent(data), group)
    empty = Parcel(parcel, person.device, int(world.now) + 999, b"")
    return resealed(person, empty, body)


def chunks_kept(person: Person) -> int:
    return int(person.engine._core.db.value("SELECT count(*) FROM tree_chunks"))


def test_group_of_250_hybrid_devices() -> None:
    """Everybody is real; only some are at home, which keeps this short: they see all of it."""
    world = World(None)
    ada = world.person("ada")
    crowd = [world.person(f"p{i}") for i in range(limits.GROUP_DEVICES - 1)]
    ada.knows(*crowd)
    early, last = crowd[0], crowd[-1]
    group = ada.create("crowd", mls_rs.HYBRID, *crowd)
    assert ada.view(group).epoch == -(-len(crowd) // INVITED_AT_ONCE)
    late = world.person("late")
    ada.knows(late)
    with pytest.raises(Fault) as caught:
        ada.invite(group, late)
    assert caught.value.code == "group-full"

    parcels = world.take(ada, last)
    contents = [reopen(last, parcel).content for parcel in parcels]
    (invitation,) = [found for found in contents if isinstance(found, WelcomeContent)]
    assert len(invitation.tree_chunks) > 1
    assert max(len(parcel.sealed) for parcel in parcels) <= limits.PARCEL
    world.hand(ada, last, parcels)
    world.people = [ada, early, last]
    world.settle()
    for person in (early, last):
        person.ask(c.Join(group))
        assert len(person.view(group).members) == limits.GROUP_DEVICES
        assert person.view(group).epoch_id == ada.view(group).epoch_id
    assert chunks_kept(last) == 0
    ada.send(group, "hello, all")
    last.send(group, "hello, ada")
    world.settle()
    assert sorted(early.read()) == ["hello, ada", "hello, all"]
    assert last.read() == ["hello, all"]
    assert ada.read() == ["hello, ada"]


@pytest.mark.parametrize("seed", range(8))
def test_chunks_and_welcome_come_in_any_order_and_twice(
    chunked: None, world: World, seed: int
) -> None:
    ada, bob, cy = world.friends("ada", "bob", "cy")
    group = ada.create("tea", K, bob, cy)
    ada.send(group, "early")
    parcels = world.take(ada, bob)
    assert sum(isinstance(reopen(bob, p).content, TreeChunkContent) for p in parcels) > 2
    order = random.Random(seed)
    mixed = order.sample(parcels, len(parcels)) + order.sample(parcels, 3)
    world.hand(ada, bob, mixed)
    assert bob.ask(c.Join(group)).epoch == 1
    assert bob.read() == ["early"]


def test_invitation_waits_for_its_last_chunk_across_restarts_and_days(
    chunked: None, world: World
) -> None:
    ada, bob = world.friends("ada", "bob")
    group = ada.create("tea", K, bob)
    parcels = world.take(ada, bob)
    last = next(p for p in parcels if isinstance(reopen(bob, p).content, TreeChunkContent))
    world.hand(ada, bob, [p for p in parcels if p is not last])
    bob.restart()
    world.later(20 * 86_400)
    assert bob.ask(c.ListRequests()) == ()
    world.hand(ada, bob, [last])
    assert [request.group for request in bob.ask(c.ListRequests())] == [group]


def test_wrong_chunk_does_no_harm_and_a_wrong_list_is_refused(chunked: None, world: World) -> None:
    ada, bob = world.friends("ada", "bob")
    group = ada.create("tea", K, bob)
    parcels = world.take(ada, bob)
    assert verdict(bob, chunk(bob, world, group, b"not a tree")) == v.Accepted()
    world.hand(ada, bob, parcels)
    assert bob.ask(c.Join(group)).epoch == 1


def test_flood_of_chunks_is_bounded_and_friends_invitations_get_through(
    chunked: None, world: World
) -> None:
    ada, bob = world.friends("ada", "bob")
    answers = set()
    for number in range(48):
        data = number.to_bytes(4, "big") * (limits.TREE_CHUNK // 4)
        answers.add(verdict(bob, chunk(bob, world, GroupId(b"x" * 16), data)))
    assert v.Deferred(60.0) in answers
    size = bob.engine._core.db.value("SELECT sum(length(data)) FROM tree_chunks")
    assert size <= 4 * 1024 * 1024
    group = ada.create("tea", K, bob)
    world.settle()
    assert bob.ask(c.Join(group)).epoch == 1
    world.later(CHUNK_S)
    assert chunks_kept(bob) == 0


def test_welcome_for_others_reserves_nothing(chunked: None, world: World) -> None:
    ada, bob, mal = world.friends("ada", "bob", "mal")
    ada.create("tea", K, bob)
    (parcel,) = [
        p for p in world.take(ada, bob) if isinstance(reopen(bob, p).content, WelcomeContent)
    ]
    body = reopen(bob, parcel)
    stolen = Parcel(parcel.id, mal.device, parcel.expires, b"")
    assert code(verdict(mal, resealed(mal, stolen, body))) == "not-for-me"
    assert chunks_kept(mal) == 0


@settings(max_examples=60, deadline=None)
@given(size=st.integers(1, 5000), part=st.integers(100, 1000), seed=st.integers(0, 99))
def test_tree_is_whole_exactly_when_all_chunks_are_here(size: int, part: int, seed: int) -> None:
    tree = random.Random(seed).randbytes(size)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(welcome, "CHUNK", part)
        parts = split_tree(tree)
    digests = [hashlib.sha256(data).digest() for data in parts]
    store = _store()
    order = random.Random(seed).sample(parts, len(parts))
    for number, data in enumerate(order):
        if number == len(order) // 2:
            store.expect(digests, wanted=True, now=1.0)
        assert store.tree(digests) is None
        assert store.add(hashlib.sha256(data).digest(), data, 1.0)[0]
    assert store.tree(digests) == tree


def _store() -> TreeStore:
    connection = apsw.Connection(":memory:")
    migrate(connection, MIGRATIONS)
    return TreeStore(Database(connection))


def test_store_survives_a_reopened_file(tmp_path: Path) -> None:
    connection = open_database(tmp_path / "t.db")
    migrate(connection, MIGRATIONS)
    store = TreeStore(Database(connection))
    store.add(b"d" * 32, b"data", 1.0)
    connection.close()
    assert TreeStore(Database(open_database(tmp_path / "t.db"))).tree([b"d" * 32]) == b"data"


@pytest.mark.parametrize("linked", [False, True])
def test_receipts_of_a_large_group_go_out_every_ten_minutes(linked: bool) -> None:
    world = World(None)
    ada, bob = world.friends("ada", "bob")
    crowd = [world.person(f"p{i}") for i in range(LARGE_GROUP - 1)]
    ada.knows(*crowd)
    group = ada.create("crowd", K, bob, *crowd)
    world.people = [ada, bob]
    world.settle()
    bob.ask(c.Join(group))
    if linked:
        world.link(ada, bob)
    told = []
    start = world.now
    while world.now < start + 1300:
        message = ada.send(group, "chatter")
        world.settle()
        world.now += 20
        for person in world.people:
            person.ask(c.Tick())
        world.settle()
        if ada.states(message)["bob"] == "delivered":
            told.append(world.now - start)
    assert 2 <= len(told) <= 3
    assert min(later - earlier for earlier, later in itertools.pairwise(told)) > 500
