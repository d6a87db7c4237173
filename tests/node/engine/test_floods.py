"""A member, or a stranger, sends too much of what has to wait: bounded, and honest mail passes."""

from __future__ import annotations

import dataclasses

import mls_rs
import pytest

from identity.signing import sign
from node.engine import commands as c
from node.engine import delivery_commands as d
from node.engine import values as v
from node.engine.groups.commits import FORK_BYTES, FORK_COMMITS
from node.engine.groups.epochs import commit_hash
from node.engine.groups.intents import OPEN_WISHES
from node.store.messages import MessageStore
from schemas import limits
from schemas.group_records import CommitHeader, Intent, IntentKind
from schemas.ids import CommitHash, DeviceKey, EpochId, GroupId, IntentId, ParcelId
from schemas.parcels import CommitContent, IntentContent, MessageContent, Parcel, ParcelBody
from schemas.records import SignedType
from tests.node.engine.test_hostile import reopen, resealed, verdict
from tests.node.engine.world import Person, World

K = mls_rs.CLASSIC


@pytest.fixture
def tea(world: World) -> tuple[Person, Person, Person, GroupId]:
    ada, bob, mal = people = world.friends("ada", "bob", "mal")
    return ada, bob, mal, world.tea(people)


def rows(person: Person, sql: str) -> int:
    return int(person.engine._core.db.value(sql, default=0))


def forged(bob: Person, world: World, number: int, body: ParcelBody) -> v.Verdict:
    parcel = ParcelId(number.to_bytes(16, "big"))
    empty = Parcel(parcel, bob.device, int(world.now) + 999, b"")
    return verdict(bob, resealed(bob, empty, dataclasses.replace(body, parcel=parcel)))


def junk(group: GroupId, number: int, mls: bytes = b"junk") -> ParcelBody:
    epoch = EpochId(number.to_bytes(32, "big"))
    return ParcelBody(ParcelId(bytes(16)), MessageContent(mls), group, epoch)


def of_the_future(mal: Person, group: GroupId, size: int = 64) -> bytes:
    """A good message of an epoch that nobody else will ever see."""
    own = mal.engine._core.mls_group(group).clone()
    own.apply(own.commit(now=int(mal.world.now)))
    return bytes(own.encrypt(b"j" * size))


def test_commits_that_come_backwards_are_one_pass(
    world: World, tea: tuple[Person, Person, Person, GroupId]
) -> None:
    ada, bob, _, group = tea
    for _ in range(250):
        ada.ask(c.UpdateKey(group))
    parcels: list[Parcel] = []
    while taken := world.take(ada, bob):
        parcels += taken
    ada.send(group, "at the end")
    parcels += world.take(ada, bob)
    assert len(parcels) == 251
    world.hand(ada, bob, list(reversed(parcels)))
    assert bob.view(group).epoch_id == ada.view(group).epoch_id
    assert bob.read() == ["at the end"]
    assert rows(bob, "SELECT count(*) FROM future") == 0


def test_commit_told_again_wakes_nobody(
    world: World,
    tea: tuple[Person, Person, Person, GroupId],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ada, bob, _, group = tea
    ada.ask(c.UpdateKey(group))
    (parcel,) = world.take(ada, bob)
    body = reopen(bob, parcel)
    assert isinstance(body.content, CommitContent)
    verdict(bob, parcel)
    looks: list[GroupId] = []
    take = MessageStore.take_parked

    def look(store: MessageStore, of: GroupId) -> list[tuple[bytes, bytes, str, DeviceKey | None]]:
        looks.append(of)
        return take(store, of)

    monkeypatch.setattr(MessageStore, "take_parked", look)
    for number in range(20):  # the same commit in new parcels: each costs a lookup, not a search
        assert forged(bob, world, number, body) == v.Accepted()
    assert looks == []


def test_early_flood_of_a_member_is_bounded_and_late_commits_still_count(
    world: World, tea: tuple[Person, Person, Person, GroupId]
) -> None:
    ada, bob, mal, group = tea
    early = of_the_future(mal, group)
    answers = [forged(bob, world, number, junk(group, number, early)) for number in range(1100)]
    assert answers.count(v.Accepted()) == limits.FUTURE_MESSAGES
    assert rows(bob, "SELECT count(*) FROM future") == limits.FUTURE_MESSAGES
    ada.ask(c.UpdateKey(group))
    ada.ask(c.UpdateKey(group))
    ada.send(group, "on top of both")
    parcels = world.take(ada, bob)
    world.hand(ada, bob, list(reversed(parcels)))  # the later ones find no room
    for _ in range(3):
        world.settle(70)
    assert bob.view(group).epoch_id == ada.view(group).epoch_id
    assert bob.read() == ["on top of both"]


def test_early_flood_of_large_parcels_is_bounded_in_bytes(
    world: World, tea: tuple[Person, Person, Person, GroupId]
) -> None:
    _, bob, mal, group = tea
    early = of_the_future(mal, group, 400_000)
    answers = [forged(bob, world, number, junk(group, number, early)) for number in range(24)]
    assert v.Deferred(60.0) in answers
    assert rows(bob, "SELECT sum(length(body)) FROM future") <= limits.FUTURE_BYTES


def test_flood_of_strangers_leaves_our_groups_alone(
    world: World, tea: tuple[Person, Person, Person, GroupId]
) -> None:
    ada, bob, _, group = tea
    for number in range(300):
        forged(bob, world, number, junk(GroupId(number.to_bytes(16, "big")), number))
    assert rows(bob, "SELECT count(*) FROM future") == 200
    ada.ask(c.UpdateKey(group))
    ada.send(group, "hello")
    world.hand(ada, bob, list(reversed(world.take(ada, bob))))
    assert bob.read() == ["hello"]


def test_leaping_generations_cost_a_bounded_state_and_nobody_elses_messages(
    world: World, tea: tuple[Person, Person, Person, GroupId]
) -> None:
    ada, bob, mal, group = tea
    ada.send(group, "slow")
    slow = world.take(ada, bob)
    ada.send(group, "fast")
    world.hand(ada, bob, [p for p in world.take(ada, bob) if p.id != slow[0].id])
    before = rows(bob, "SELECT length(blob) FROM group_state")
    counted: list[str] = []
    for _ in range(30):
        mls = mal.engine._core.mls_group(group)
        mls.skip_to_generation(mls.next_generation + 1000)
        mal.send(group, "noise")
        (parcel,) = world.take(mal, bob)
        result = bob.engine.run([d.Arrived(parcel, "relay")], world.now)
        mal.ask(d.ReportOutcomes((d.Outcome(parcel.id, acked=True),)))
        counted += [e.reason for e in result.effects if isinstance(e, v.Counted)]
    after = rows(bob, "SELECT length(blob) FROM group_state")
    assert bob.engine._core.mls_group(group).skipped_keys <= 4096
    assert after - before < 256 * 1024
    assert "skipped-keys-dropped" in counted
    world.hand(ada, bob, slow)
    assert sorted(bob.read()) == ["fast", *["noise"] * 30, "slow"]
    ada.send(group, "still here")
    world.settle()
    assert bob.read() == ["still here"]


def test_message_too_far_ahead_is_not_lost(
    world: World, tea: tuple[Person, Person, Person, GroupId]
) -> None:
    """Receivers look 1,024 generations ahead; beyond, what lies between has to come first."""
    ada, bob, _, group = tea
    parcels = []
    for text in ("nearer", "further"):
        mls = ada.engine._core.mls_group(group)
        mls.skip_to_generation(mls.next_generation + 800)
        ada.send(group, text)
        parcels += world.take(ada, bob)
    assert verdict(bob, parcels[1]) == v.Deferred(60.0)
    world.hand(ada, bob, parcels)
    assert bob.read() == ["nearer", "further"]


def test_made_up_branches_are_bounded(
    world: World, tea: tuple[Person, Person, Person, GroupId]
) -> None:
    """Any former member can sign headers of commits that nobody can check."""
    _, bob, mal, group = tea
    row = mal.engine._core.group(group)
    commits = rows(bob, "SELECT count(*) FROM commits")
    for number in range(40):
        mls = number.to_bytes(4, "big") * 100_000
        parent = CommitHash(number.to_bytes(32, "big"))  # siblings are bounded by themselves
        header = CommitHeader(commit_hash(mls), parent, group, row.epoch, mal.device)
        signed = sign(SignedType.COMMIT_HEADER, mal.engine.device, header.encode())
        body = ParcelBody(ParcelId(bytes(16)), CommitContent(signed, mls), group)
        forged(bob, world, number, body)
    kept = rows(bob, "SELECT sum(length(mls)) FROM commits WHERE epoch_id IS NULL")
    assert 0 < kept <= FORK_BYTES
    assert rows(bob, "SELECT count(*) FROM commits") - commits <= FORK_COMMITS


def test_wishes_of_one_member_are_bounded(
    world: World, tea: tuple[Person, Person, Person, GroupId]
) -> None:
    _, bob, mal, group = tea
    for number in range(30):
        wish = Intent(IntentId(number.to_bytes(16, "big")), group, mal.device, IntentKind.UPDATE)
        signed = sign(SignedType.INTENT, mal.engine.device, wish.encode())
        forged(bob, world, number, ParcelBody(ParcelId(bytes(16)), IntentContent(signed), group))
    assert rows(bob, "SELECT count(*) FROM intents") == OPEN_WISHES
