"""The virtual machines and network: what the scenarios rely on when they make trouble."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from node.engine import commands as c
from schemas import limits
from schemas.errors import Fault
from schemas.ids import MessageId
from simulation.scenario import ACTIVE, Sim, Violation
from simulation.stage import Group
from simulation.world.evidence import Evidence, queues_within_caps
from simulation.world.tuning import tuned
from simulation.world.world import World


@pytest.fixture(autouse=True)
def _tuned() -> Iterator[None]:
    with tuned(idle_s=30.0, devices=250):
        yield


def small(seed: int = 1, *, nodes: int = 3, relay: bool = False) -> tuple[World, Sim, Group]:
    world = World(seed, relay=relay)
    sim = Sim(world, nodes, seed)
    return world, sim, sim.group()


def texts(sim: Sim, node: str, group: Group) -> list[str]:
    return [message.text for message in sim.stage.shown(node, group)]


def test_time_passes_only_when_it_is_told_to() -> None:
    world, sim, _ = small()
    begun = world.now
    sim.wait(3600)
    assert world.now == begun + 3600


def test_what_is_sent_is_shown_within_a_second() -> None:
    _, sim, group = small()
    sim.send("n00", group, "tea?")
    sim.wait(1)
    assert texts(sim, "n01", group) == texts(sim, "n02", group) == ["tea?"]
    assert texts(sim, "n00", group) == []


def test_nothing_crosses_a_partition_and_all_of_it_does_after() -> None:
    _, sim, group = small()
    sim.partition(["n00"], ["n01", "n02"])
    message = sim.send("n00", group, "tea?")
    sim.wait(300)
    assert texts(sim, "n01", group) == []
    assert message is not None
    owed = sim.stage.ledger("n00", message)
    assert {(entry.state, entry.reason) for entry in owed} == {("queued", "no-answer")}
    sim.heal()
    sim.wait(3)
    assert texts(sim, "n01", group) == texts(sim, "n02", group) == ["tea?"]


def test_a_way_that_is_cut_ends_the_link_both_ways() -> None:
    world, sim, group = small()
    world.cut("n00", "n01")
    sim.wait(3)
    sim.send("n01", group, "tea?")
    sim.wait(30)
    assert texts(sim, "n02", group) == ["tea?"]
    assert texts(sim, "n00", group) == ["tea?"], "by n02, which both still meet"


def test_a_sleeper_gets_by_relay_what_was_sent_meanwhile() -> None:
    _, sim, group = small(relay=True)
    sim.sleep("n01")
    message = sim.send("n00", group, "tea?")
    sim.wait(60)
    assert message is not None
    states = {entry.recipient: entry.state for entry in sim.stage.ledger("n00", message)}
    assert states == {"n01": "held", "n02": "read"}
    sim.sleep("n00")
    sim.wake("n01")
    sim.wait(2)
    assert texts(sim, "n01", group) == ["tea?"]


def test_a_relay_keeps_mail_for_seven_days_and_no_longer() -> None:
    world, sim, group = small(relay=True)
    sim.sleep("n01")
    sim.send("n00", group, "tea?")
    sim.wait(5)
    sim.sleep("n00", "n02")
    sim.wait(7 * 86_400)
    sim.wake("n01")
    sim.wait(60)
    assert texts(sim, "n01", group) == []
    sim.wake("n00")
    sim.wait(60)
    assert texts(sim, "n01", group) == ["tea?"]
    assert world.relay is not None


def test_a_relay_that_withholds_shows_it_when_released() -> None:
    world, sim, group = small(relay=True)
    sim.only_by_relay()
    sim.wait(3)
    world.withhold(["n01"])
    sim.send("n00", group, "tea?")
    sim.wait(60)
    assert (texts(sim, "n01", group), texts(sim, "n02", group)) == ([], ["tea?"])
    world.release()
    sim.wait(2)
    assert texts(sim, "n01", group) == ["tea?"]


@pytest.mark.parametrize("point", ["before", "after", "between"])
def test_a_crash_loses_nothing(point: str) -> None:
    """After the commit the message is on disk; before it, it was never accepted."""
    _, sim, group = small()
    sim.send("n00", group, "tea?")
    sim.crash("n01", point)
    sim.wait(30)
    assert sim.stage.awake("n01")
    assert texts(sim, "n01", group) == ["tea?"]


def test_a_crash_before_the_commit_undoes_the_batch() -> None:
    world, sim, group = small()
    machine = world.machines["n00"]
    machine._crash_point = "before"
    with pytest.raises(Fault, match="crashed"):
        machine.ask(c.Send(machine.engine._core.groups.all()[0].id, "lost"))
    sim.wait(30)
    assert [message.text for message in sim.stage.history("n00", group)] == []


def test_a_crash_after_the_commit_keeps_it() -> None:
    world, sim, group = small()
    machine = world.machines["n00"]
    machine._crash_point = "after"
    machine.ask(c.Send(machine.engine._core.groups.all()[0].id, "kept"))
    sim.wait(30)
    assert texts(sim, "n01", group) == ["kept"]


def test_a_full_disk_refuses_and_loses_nothing() -> None:
    _, sim, group = small()
    sim.stage.fill_disk("n01", True)
    assert sim.send("n01", group, "refused") is None
    sim.send("n00", group, "tea?")
    sim.wait(60)
    assert texts(sim, "n01", group) == []
    sim.stage.fill_disk("n01", False)
    sim.wait(60)
    assert texts(sim, "n01", group) == ["tea?"]


def test_loss_duplicates_and_reordering_are_the_engines_to_bear() -> None:
    _, sim, group = small()
    sim.trouble(loss=0.3, duplicates=0.5, reorder=0.5)
    sent = [sim.send("n00", group, f"{number}") for number in range(30)]
    sim.wait(600)
    for node in ("n01", "n02"):
        assert sorted(texts(sim, node, group), key=int) == [str(n) for n in range(len(sent))]


def test_a_copy_of_a_disk_has_the_same_keys_and_its_own_life() -> None:
    world, sim, group = small()
    twin = sim.clone("n02")
    assert not sim.stage.awake(twin)
    assert world.machines[twin].device == world.machines["n02"].device
    sim.sleep("n02")
    sim.wake(twin)
    sim.send(twin, group, "it is me, of course")
    sim.wait(5)
    assert texts(sim, "n00", group) == ["it is me, of course"]


def test_commits_on_both_sides_are_one_epoch_after_healing() -> None:
    _, sim, group = small(nodes=4)
    left, right = sim.halves()
    sim.partition(left, right)
    sim.update_key(left[0], group)
    sim.update_key(right[0], group)
    sim.wait(30)
    assert len({at.epoch_id for at in sim.standings(group).values()}) == 2
    sim.heal()
    sim.converge(group, within=30)
    assert {at.status for at in sim.standings(group).values()} == {ACTIVE}


# --- evidence


def test_a_message_shown_twice_is_found() -> None:
    world, sim, group = small()
    sim.send("n00", group, "tea?")
    sim.wait(2)
    machine = world.machines["n01"]
    (message,) = machine.ask(c.ReadHistory(machine.engine._core.groups.all()[0].id))
    with pytest.raises(Violation, match="shown-once"):
        world.evidence.shown(machine, message)


def test_a_reader_who_was_no_member_is_found() -> None:
    world, sim, group = small()
    sim.remove("n00", group, "n02")
    sim.wait(2)
    sim.send("n00", group, "without you")
    sim.wait(2)
    machine = world.machines["n01"]
    (message,) = machine.ask(c.ReadHistory(machine.engine._core.groups.all()[0].id))
    with pytest.raises(Violation, match="removed-reads-nothing"):
        world.evidence.shown(world.machines["n02"], message)


def test_a_generation_used_twice_is_found() -> None:
    world, _, _ = small()
    machine = world.machines["n00"]
    row = machine.engine._core.groups.all()[0]
    evidence: Evidence = world.evidence
    evidence.sealed(machine, row.id, row.epoch_id, 77, MessageId(bytes(16)))
    with pytest.raises(Violation, match="generation-once"):
        evidence.sealed(machine, row.id, row.epoch_id, 77, MessageId(bytes(15) + b"1"))


def test_members_who_differ_about_an_epoch_are_found() -> None:
    world, _, _ = small()
    machine = world.machines["n00"]
    row = machine.engine._core.groups.all()[0]
    members = frozenset(m.device for m in machine.engine._core.groups.members(row.id))
    with pytest.raises(Violation, match="one-authenticator"):
        world.evidence.entered(machine, row.id, row.epoch_id, b"another", members)


def test_a_queue_above_its_cap_is_found() -> None:
    world, _, _ = small()
    machine = world.machines["n00"]
    row = machine.engine._core.groups.all()[0]
    queues_within_caps(machine)
    for number in range(limits.FUTURE_MESSAGES + 1):
        machine.disk.execute(
            "INSERT INTO future (group_id, known, digest, path, body, arrival)"
            " VALUES (?, 1, ?, 'direct', x'00', 0.0)",
            (row.id, number.to_bytes(32, "big")),
        )
    with pytest.raises(Violation, match="within-caps"):
        queues_within_caps(machine)
