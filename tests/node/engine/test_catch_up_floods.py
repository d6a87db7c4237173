"""A member asks for everything, for ever, or for nonsense: bounded, and others are served."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from identity.keys import KeyPair
from identity.signing import sign
from node.engine import catch_up, serving
from node.engine import commands as c
from node.engine import delivery_commands as d
from node.engine import values as v
from schemas import limits
from schemas.errors import Malformed
from schemas.group_records import AuthorMark, Summary
from schemas.ids import CommitHash, DeviceKey, GroupId
from schemas.parcels import CommitContent, HeadsContent, ParcelBody
from schemas.records import Signed, SignedType
from tests.node.engine.test_catch_up import away
from tests.node.engine.world import Person, World

MESSAGES = 60


@dataclass
class Scene:
    world: World
    ada: Person
    bob: Person
    mal: Person
    group: GroupId


@pytest.fixture
def scene() -> Scene:
    """Bob has 60 messages of Ada, who is gone; Mal has none, and is linked to Bob."""
    world = World(None)
    ada, bob, mal = people = world.friends("Ada", "Bob", "Mal")
    group = world.tea(people)
    away(world, mal)
    for n in range(MESSAGES):
        ada.send(group, str(n))
    world.settle(1)
    away(world, ada, mal)
    bob.ask(d.LinkUp(mal.device, mal.ask(d.OwnHello("127.0.0.1:1"))))
    world.settle(1)
    bob.summaries.clear()
    return Scene(world, ada, bob, mal, group)


@pytest.fixture
def numbers() -> Iterator[int]:
    return iter(range(1000, 10_000))


def summary(
    scene: Scene,
    number: int,
    marks: tuple[AuthorMark, ...] = (),
    head: CommitHash | None = None,
    tree: bytes = bytes(32),
    by: KeyPair[DeviceKey] | None = None,
) -> d.ReceiveSummary:
    """Mal's, who knows nothing of the group but where it stands."""
    row = scene.bob.engine._core.group(scene.group)
    said = Summary(scene.group, row.epoch_id, head or row.head, number, marks, tree)
    signed = sign(SignedType.SUMMARY, by or scene.mal.engine.device, said.encode())
    return d.ReceiveSummary(scene.mal.device, signed)


def waiting(scene: Scene, kind: str) -> int:
    return int(
        scene.bob.engine._core.db.value(
            "SELECT count(*) FROM outbox JOIN payloads p ON p.id = payload WHERE kind = ?", kind
        )
    )


def drain(scene: Scene) -> int:
    """Mal takes and acknowledges all that Bob has for it; how many parcels that was."""
    parcels = 0
    while items := scene.bob.ask(d.TakeDue(scene.mal.device)):
        parcels += len(items)
        scene.bob.ask(d.ReportOutcomes(tuple(d.Outcome(item.parcel, acked=True) for item in items)))
    return parcels


def counted(person: Person, *batch: c.Command[Any]) -> list[str]:
    result = person.engine.run(batch, person.world.now)
    return [effect.reason for effect in result.effects if isinstance(effect, v.Counted)]


def test_one_thing_is_not_handed_over_again_and_again(scene: Scene, numbers: Iterator[int]) -> None:
    taken = []
    for _ in range(20):
        scene.bob.ask(summary(scene, next(numbers)))
        scene.world.now += 3
        scene.bob.ask(c.Tick())
        taken.append(drain(scene))
    assert taken[0] >= MESSAGES
    assert sum(taken[1:]) == 0
    scene.world.now += serving.AGAIN_S
    scene.bob.ask(summary(scene, next(numbers)))
    scene.bob.ask(c.Tick())
    assert drain(scene) >= MESSAGES  # it may have been lost


def test_storm_of_summaries_is_one_answer_in_two_seconds(
    scene: Scene, numbers: Iterator[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    served = []
    serve = serving.Serving.serve

    def note(*arguments: Any) -> None:
        served.append(scene.world.now)
        serve(*arguments)

    monkeypatch.setattr(serving.Serving, "serve", note)
    for _ in range(6):
        for _ in range(200):
            scene.bob.ask(summary(scene, next(numbers)))
            scene.world.now += 1 / 200
        scene.bob.ask(c.Tick())
        drain(scene)
    assert 3 <= len(served) <= 4  # six seconds
    assert len(scene.bob.engine._catch_up._waiting) <= 1
    # Nobody else waits for it: a message goes through as ever.
    away(scene.world)
    scene.ada.send(scene.group, "as ever")
    scene.world.settle(2)
    assert scene.bob.read(scene.group)[-1] == "as ever"


def test_peer_that_takes_nothing_fills_no_outbox(
    scene: Scene, numbers: Iterator[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "AGAIN_S", 0.0)  # as if all were lost at once
    for _ in range(10):
        scene.bob.ask(summary(scene, next(numbers)))
        scene.world.now += 3
        scene.bob.ask(c.Tick())
    assert waiting(scene, "carried") == MESSAGES
    scene.bob.ask(d.LinkDown(scene.mal.device))
    assert waiting(scene, "carried") == waiting(scene, "catch-up") == 0


def test_answer_is_bounded_in_bytes(
    scene: Scene, numbers: Iterator[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "BYTES", 8 * limits.KIB)
    scene.bob.ask(summary(scene, next(numbers)))
    size = int(
        scene.bob.engine._core.db.value(
            "SELECT coalesce(sum(length(body)), 0) FROM outbox JOIN payloads p ON p.id = payload"
            " WHERE kind IN ('carried', 'catch-up')"
        )
    )
    assert 0 < size < 16 * limits.KIB


def test_without_a_link_the_answer_is_small(
    scene: Scene, numbers: Iterator[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "BYTES_BY_RELAY", 4 * limits.KIB)
    scene.bob.ask(d.LinkDown(scene.mal.device))
    scene.bob.ask(summary(scene, next(numbers)))
    assert 0 < waiting(scene, "carried") < MESSAGES // 2


def test_marks_that_make_no_sense_cost_nothing(scene: Scene, numbers: Iterator[int]) -> None:
    ada, most = scene.ada.device, limits.COUNTER
    strangers = tuple(
        AuthorMark(DeviceKey(n.to_bytes(32, "big")), 1, 5, (), 0)
        for n in range(limits.SUMMARY_AUTHORS)
    )
    nonsense = [
        (AuthorMark(ada, most, 0, (), 0),),
        (AuthorMark(ada, 0, most, tuple(range(limits.SUMMARY_GAPS)), most),),
        (AuthorMark(ada, 50, 10, (most, 0, 3, 3, 3), 7),),
        (AuthorMark(ada, 0, 0, (), 0),) * 1000,
        strangers,
    ]
    for marks in nonsense:
        scene.bob.ask(summary(scene, next(numbers), marks))
        scene.world.now += 3
        scene.bob.ask(c.Tick())
        assert waiting(scene, "carried") <= MESSAGES
        drain(scene)
        scene.world.now += serving.AGAIN_S


def test_who_says_to_have_everything_gets_nothing(scene: Scene, numbers: Iterator[int]) -> None:
    everything = AuthorMark(scene.ada.device, 0, limits.COUNTER, (), 0)
    scene.bob.ask(summary(scene, next(numbers), (everything,)))
    assert waiting(scene, "carried") == 0


def test_forged_summaries_are_refused(scene: Scene, numbers: Iterator[int]) -> None:
    forged = summary(scene, next(numbers))
    bent = bytearray(forged.summary.payload)
    bent[-1] ^= 1
    for signed in (
        Signed(bytes(bent), forged.summary.signer, forged.summary.signature),
        Signed(forged.summary.payload, scene.ada.device, forged.summary.signature),
    ):
        with pytest.raises(Malformed):
            scene.bob.ask(d.ReceiveSummary(DeviceKey(signed.signer), signed))
    with pytest.raises(Malformed, match="somebody else"):
        scene.bob.ask(d.ReceiveSummary(scene.ada.device, forged.summary))
    assert waiting(scene, "carried") == 0


def test_stranger_gets_nothing(scene: Scene, numbers: Iterator[int]) -> None:
    eve = scene.world.person("Eve")
    signed = summary(scene, next(numbers), by=eve.engine.device).summary
    with pytest.raises(Malformed, match="stranger"):
        scene.bob.ask(d.ReceiveSummary(eve.device, signed))
    assert waiting(scene, "carried") == waiting(scene, "catch-up") == 0


def test_removed_member_gets_no_message_bundle_or_wish(
    scene: Scene, numbers: Iterator[int]
) -> None:
    scene.world.deliver = lambda sender, recipient: scene.mal not in (sender, recipient)
    scene.ada.ask(c.RemoveMember(scene.group, scene.mal.identity))
    scene.ada.send(scene.group, "without Mal")
    scene.ada.ask(c.UpdateKey(scene.group))
    scene.world.settle(2)
    head = scene.mal.engine._core.group(scene.group).head
    drain(scene)
    scene.bob.ask(summary(scene, next(numbers), head=head))
    scene.world.now += 3
    scene.bob.ask(c.Tick())
    items = scene.bob.ask(d.TakeDue(scene.mal.device))
    contents = [ParcelBody.decode(item.body).content for item in items]
    assert {type(content) for content in contents} == {CommitContent, HeadsContent}
    whole = [content for content in contents if isinstance(content, CommitContent)]
    assert len(whole) == 1  # the one that removed it; of the next only the header


def test_old_summary_that_somebody_repeats_is_not_answered(
    scene: Scene, numbers: Iterator[int]
) -> None:
    old = summary(scene, next(numbers))
    scene.bob.ask(old)
    assert waiting(scene, "carried") == MESSAGES
    drain(scene)
    scene.world.now += serving.AGAIN_S + 1
    assert counted(scene.bob, old) == ["catch-up-repeated"]
    scene.bob.ask(c.Tick())
    assert waiting(scene, "carried") == 0


def test_head_that_nobody_can_explain_is_asked_about_once_a_minute(
    scene: Scene, numbers: Iterator[int]
) -> None:
    nowhere = CommitHash(b"\7" * 32)
    for _ in range(20):
        scene.bob.ask(summary(scene, next(numbers), head=nowhere))
        scene.world.now += 2.5
        scene.bob.ask(c.Tick())
        drain(scene)
    assert len(scene.bob.summaries) == 1


def test_what_waits_and_is_remembered_is_bounded(
    scene: Scene, numbers: Iterator[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catch_up, "WAITING", 0)
    assert counted(scene.bob, summary(scene, next(numbers))) == ["catch-up-busy"]
    monkeypatch.setattr(serving, "GIVEN", 10)
    monkeypatch.setattr(catch_up, "WAITING", 5)
    scene.bob.ask(summary(scene, next(numbers)))
    assert scene.bob.engine._catch_up._serving._count <= 10
