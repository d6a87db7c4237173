"""kill -9 of a relay while it takes mail: the next one of the recipient's has it, in their order,
and whatever both hold in the end is shown once."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from node.api import operations as op
from node.api import shapes as s
from simulation.processes.talk import Accepted, Talk, wait_until
from tests.durability.programs import NodeProgram, RelayProgram
from tests.ports import free_ports

EARLIER, BURST, LATER = 5, 20, 10
ROUNDS = 4


@dataclass
class Mailed(NodeProgram):
    """A node that reads at two relays, the first before the second."""

    second: str = ""

    def _arguments(self) -> tuple[str, str, list[str]]:
        script, program, arguments = super()._arguments()
        return script, program, [*arguments, "--relay", self.second]


class Scene:
    """Ada writes, Bob is mostly away, and two relays keep his mail."""

    def __init__(self, folder: Path) -> None:
        ports = free_ports(4)
        self.relays = [
            RelayProgram(name, folder / name, port)
            for name, port in zip(("first", "second"), ports[:2], strict=True)
        ]
        self.nodes = [
            Mailed(name, folder, port) for name, port in zip(("ada", "bob"), ports[2:], strict=True)
        ]
        self.first, self.second = self.relays
        self.ada, self.bob = self.nodes

    def start(self, label: str = "", place: str = "") -> Talk:
        """`label` and `place`: where the first relay will die, once it is armed."""
        for relay in self.relays:
            relay.folder.mkdir()
        self.first.start(label, place)
        self.second.start()
        for node in self.nodes:
            node.relay, node.second = self.first.address, self.second.address
            node.make_home()
            node.start()
            node.device = str(node.ready["device"])
            node.identity = node.call(op.WHOAMI, s.Nothing()).identity
        self.ada.knows(self.bob)
        self.bob.knows(self.ada)
        made = self.ada.call(op.CREATE_GROUP, s.CreateGroup("harbour"))
        self.ada.call(op.INVITE, s.Invite(made.group, [self.bob.identity]))
        self.bob.join(made.group)
        talk = Talk(made.group, list(self.nodes))
        talk.must_say(self.ada)
        wait_until(lambda: self.settled(talk), "they talk")
        return talk

    def settled(self, talk: Talk) -> bool:
        """Everything said has reached Bob, and no mailbox holds any of it."""
        states = {state for said in talk.accepted for state in self.ada.states(said.id).values()}
        return states <= {"delivered", "read"} and not self.parcels()

    def parcels(self) -> int:
        return sum(relay.parcels() for relay in self.relays)

    def queued(self) -> int:
        """Messages that Ada has accepted and no relay has, as the disk says."""
        found = self.ada.rows(
            "SELECT count(*) FROM outbox o JOIN payloads p ON p.id = o.payload"
            " WHERE p.kind = 'message' AND o.stage = 'queued'"
        )
        return int(found[0][0])

    def holder(self, said: Accepted) -> str | None:
        """The address of the relay that the ledger says has it."""
        (row,) = self.ada.call(op.LEDGER, s.ByMessage(said.id))
        return row.relay if row.state == "held" else None

    def all_held(self, said: list[Accepted]) -> list[str]:
        """By which relay each, once each is."""

        def look() -> list[str] | None:
            found = [relay for relay in map(self.holder, said) if relay is not None]
            return found if len(found) == len(said) else None

        return wait_until(look, "every message is at a relay")

    def read_without_ada(self, talk: Talk) -> None:
        """Bob comes back while Ada stands still: all that he gets is from the relays."""
        with self.ada.frozen():
            self.bob.start()
            reader = talk.reader(self.bob)

            def everything() -> bool:
                reader.read()
                return {said.id for said in talk.accepted} <= reader.shown.keys()

            wait_until(everything, "everything is shown from the relays")
            assert reader.twice == []
            wait_until(lambda: self.parcels() == 0, "both mailboxes are empty")

    def end(self) -> None:
        for program in (*self.relays, *self.nodes):
            program.kill()


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    made = Scene(tmp_path)
    try:
        yield made
    finally:
        made.end()


# Each of these takes some 15 s: a relay that is gone is silence, and costs its dial deadline.
@pytest.mark.parametrize("place", ["before", "after"])
def test_the_second_relay_has_what_the_first_died_of(scene: Scene, place: str) -> None:
    """`after`: the first one has it on disk, and could not say so any more."""
    talk = scene.start("enqueue", place)
    scene.bob.stop()
    earlier = [talk.must_say(scene.ada) for _ in range(EARLIER)]
    assert scene.all_held(earlier) == [scene.first.address] * EARLIER
    scene.first.arm()
    burst = [talk.must_say(scene.ada) for _ in range(BURST)]
    scene.first.wait_death()
    burst += [talk.must_say(scene.ada) for _ in range(LATER)]
    assert set(scene.all_held(burst)) == {scene.second.address}
    assert set(scene.all_held(earlier)) == {scene.first.address}, "no reason to move these"
    assert scene.second.parcels() == len(burst)
    twice = scene.first.parcels() - EARLIER
    assert (twice > 0) == (place == "after")
    scene.first.start()
    scene.read_without_ada(talk)
    talk.check()
    # Back again, the first is asked first.
    scene.bob.stop()
    back = [scene.first.address]
    wait_until(lambda: scene.all_held([talk.must_say(scene.ada)]) == back, "the first again")


@pytest.mark.timeout(150)
def test_relays_that_are_killed_in_turns_lose_and_repeat_nothing(scene: Scene) -> None:
    """At any moment, with messages under way; for a while there may be no relay at all."""
    seed = int(os.environ.get("QUICNPROTOCHAT_TEST_SEED") or random.randrange(2**32))
    print(f"QUICNPROTOCHAT_TEST_SEED={seed}")  # pytest shows it when the test fails
    dice = random.Random(seed)
    talk = scene.start()
    scene.bob.kill()
    under_way: list[int] = []
    for turn in range(ROUNDS):
        victim = scene.relays[turn % 2]
        for _ in range(dice.randint(1, BURST)):  # the moment is what is random
            talk.must_say(scene.ada)
        with scene.ada.frozen():
            under_way.append(scene.queued())
            victim.kill()
        for _ in range(LATER):
            talk.must_say(scene.ada)
        victim.start()
    assert sum(map(bool, under_way)) >= ROUNDS / 2, under_way
    wait_until(lambda: scene.queued() == 0, "everything has left Ada")
    scene.read_without_ada(talk)
    talk.check()
