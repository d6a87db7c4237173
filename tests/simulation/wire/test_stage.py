"""What the wire tier does to machines and networks, and what real nodes make of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from node.engine.engine import Engine
from schemas.errors import Fault
from simulation.scenario import Sim
from simulation.stage import Group, Node
from simulation.wire.stage import WireStage

SIX_HOURS_S = 6 * 3600.0
A, B, C = "n00", "n01", "n02"


def group_of(stage: WireStage, count: int) -> tuple[Sim, Group]:
    sim = Sim(stage, count, 1)
    return sim, sim.group()


def texts(stage: WireStage, node: Node, group: Group) -> list[str]:
    return [message.text for message in stage.shown(node, group)]


def states(stage: WireStage, author: Node, message: str) -> dict[Node, str]:
    return {owed.recipient: owed.state for owed in stage.ledger(author, message)}


def test_members_that_never_met_reach_each_other_over_real_quic(stage: WireStage) -> None:
    sim, group = group_of(stage, 3)  # only the founder was made known to the others
    message = stage.send(B, group, "hello")
    sim.wait(5)
    assert texts(stage, C, group) == ["hello"]
    assert states(stage, B, message) == {A: "delivered", C: "delivered"}
    assert stage.network.counters["bytes"] > 20_000


def test_each_message_is_shown_once_and_own_ones_are_history(stage: WireStage) -> None:
    sim, group = group_of(stage, 2)
    stage.send(A, group, "one")
    sim.wait(1)
    assert texts(stage, B, group) == ["one"]
    stage.send(A, group, "two")
    sim.wait(1)
    assert texts(stage, B, group) == ["one", "two"]
    assert texts(stage, A, group) == []
    assert [(m.author, m.sequence, m.text) for m in stage.history(A, group)] == [
        (A, 1, "one"),
        (A, 2, "two"),
    ]


def test_questions_take_no_time_and_six_hours_take_seconds(stage: WireStage) -> None:
    sim, group = group_of(stage, 2)
    before = stage.now
    stage.send(A, group, "hello")
    stage.standing(B, group)
    assert stage.now == before
    stage.sleep(B)
    sim.wait(SIX_HOURS_S)
    stage.wake(B)
    sim.wait(10)
    assert texts(stage, B, group) == ["hello"]
    assert stage.now == pytest.approx(before + SIX_HOURS_S + 10)


def test_who_sleeps_hears_nothing_until_it_wakes(stage: WireStage) -> None:
    sim, group = group_of(stage, 2)
    stage.sleep(B)
    assert not stage.awake(B)
    message = stage.send(A, group, "are you there?")
    sim.wait(300)
    assert texts(stage, B, group) == []
    assert states(stage, A, message) == {B: "queued"}
    standing = stage.standing(B, group)
    assert standing is not None
    assert standing.members == {A, B}
    stage.wake(B)
    sim.wait(5)
    assert texts(stage, B, group) == ["are you there?"]


def test_what_was_not_committed_when_the_power_went_never_happened(stage: WireStage) -> None:
    sim, group = group_of(stage, 2)
    stage.crash(A, "before")
    with pytest.raises(Fault) as refused:
        stage.send(A, group, "lost, and said to be")
    assert refused.value.code == "engine-crashed"
    assert not stage.awake(A)
    assert sim.until(lambda: stage.awake(A), within=10)
    stage.send(A, group, "after")
    sim.wait(10)
    assert texts(stage, B, group) == ["after"]
    assert [m.text for m in stage.history(A, group)] == ["after"]


def test_what_was_committed_when_the_power_went_is_sent_by_the_next_process(
    stage: WireStage,
) -> None:
    sim, group = group_of(stage, 2)
    stage.crash(A, "after")
    with pytest.raises(Fault):
        stage.send(A, group, "on disk, and nobody heard")
    assert sim.until(lambda: stage.awake(A), within=10)
    sim.wait(10)
    assert texts(stage, B, group) == ["on disk, and nobody heard"]


def test_a_receiver_that_dies_with_a_parcel_in_hand_gets_it_again(stage: WireStage) -> None:
    sim, group = group_of(stage, 2)
    for point in ("before", "after", "between"):
        stage.crash(B, point)
        stage.send(A, group, point)
        sim.wait(30)
        assert stage.awake(B)
    assert texts(stage, B, group) == ["before", "after", "between"]


def test_a_full_disk_refuses_and_what_arrives_meanwhile_is_not_lost(stage: WireStage) -> None:
    sim, group = group_of(stage, 2)
    stage.fill_disk(B, True)
    with pytest.raises(Fault) as refused:
        stage.send(B, group, "no room")
    assert refused.value.code == "disk-full"
    stage.send(A, group, "hello")
    sim.wait(60)
    stage.fill_disk(B, False)
    sim.wait(60)
    assert texts(stage, B, group) == ["hello"]
    assert texts(stage, A, group) == []


def test_who_crashes_and_falls_asleep_starts_when_it_wakes(stage: WireStage) -> None:
    sim, group = group_of(stage, 2)
    stage.crash(B)
    stage.sleep(B)
    sim.wait(60)
    assert not stage.awake(B)
    stage.send(A, group, "hello")
    stage.wake(B)
    sim.wait(30)
    assert stage.awake(B)
    assert texts(stage, B, group) == ["hello"]


def test_sides_of_a_partition_hear_each_other_once_it_is_healed(stage: WireStage) -> None:
    sim, group = group_of(stage, 3)
    stage.partition([[A], [B, C]])
    stage.send(A, group, "left")
    stage.send(B, group, "right")
    sim.wait(600)
    assert texts(stage, C, group) == ["right"]
    assert texts(stage, A, group) == []
    stage.heal()
    sim.wait(5)
    assert sorted(texts(stage, C, group)) == ["left", "right"]
    assert texts(stage, A, group) == ["right"]


def test_a_line_that_works_one_way_only_delivers_nothing_until_it_is_healed(
    stage: WireStage,
) -> None:
    sim, group = group_of(stage, 2)
    stage.cut(B, A)
    message = stage.send(A, group, "hello")
    sim.wait(120)
    assert states(stage, A, message)[B] in ("queued", "sent")
    stage.heal()
    sim.wait(10)
    assert texts(stage, B, group) == ["hello"]
    assert states(stage, A, message) == {B: "delivered"}


def test_a_bad_network_delays_and_loses_no_message(stage: WireStage) -> None:
    sim, group = group_of(stage, 3)
    stage.trouble(latency_s=(0.01, 0.4), loss=0.2, duplicates=0.1, reorder=0.2)
    sent = [stage.send(A, group, str(number)) for number in range(20)]
    assert sim.until(
        lambda: all(set(states(stage, A, each).values()) == {"delivered"} for each in sent),
        within=300,
    )
    assert texts(stage, B, group) == texts(stage, C, group) == [str(n) for n in range(20)]
    assert stage.network.counters["lost"] > 10


def test_a_clock_that_is_an_hour_ahead_separates_nobody(stage: WireStage) -> None:
    sim, group = group_of(stage, 2)
    stage.set_clock(B, 3600)
    stage.crash(B)
    sim.wait(30)
    stage.send(A, group, "to the future")
    stage.send(B, group, "to the past")
    sim.wait(10)
    assert texts(stage, B, group) == ["to the future"]
    assert texts(stage, A, group) == ["to the past"]


def test_a_real_relay_carries_what_has_no_other_way_and_what_it_withholds_is_seen() -> None:
    stage = WireStage(1, relay=True)
    try:
        sim, group = group_of(stage, 2)
        stage.isolate()
        sim.wait(60)
        through = stage.send(A, group, "through the relay")
        sim.wait(5)
        assert texts(stage, B, group) == ["through the relay"]
        assert states(stage, A, through) == {B: "delivered"}
        stage.withhold([B])
        kept = stage.send(A, group, "kept back")
        sim.wait(600)
        assert texts(stage, B, group) == ["through the relay"]
        assert states(stage, A, kept) == {B: "held"}
        stage.release()
        sim.wait(5)
        assert texts(stage, B, group) == ["through the relay", "kept back"]
    finally:
        stage.close()


def test_an_engine_that_crashes_by_a_bug_ends_the_run(
    stage: WireStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    sim, _ = group_of(stage, 2)

    def panic(*_: object) -> None:
        raise BaseException("as from Rust")

    with monkeypatch.context() as patched:
        patched.setattr(Engine, "run", panic)
        with pytest.raises(Fault, match="ended unexpectedly"):
            sim.wait(3600)


def test_the_homes_are_gone_at_the_end() -> None:
    stage = WireStage(1)
    stage.start(A)
    home = stage.machines[A].home
    assert (home / "node.db").exists()
    stage.close()
    assert not home.exists()
    assert isinstance(home, Path)
