"""A recipient moves from one relay to another, by the command line, while messages flow or while it
is away; the old relay is killed. Each message is shown once."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from node.api import network_shapes as ns
from node.api import operations as op
from node.api import shapes as s
from node.demo.processes import BIN, environment
from simulation.processes.talk import Talk, wait_until
from tests.durability.programs import NodeProgram, RelayProgram
from tests.ports import free_ports

FLOW = 60


@dataclass
class Settled(NodeProgram):
    """A node that keeps the relays it has; nobody is reached but by relay."""

    def _arguments(self) -> tuple[str, str, list[str]]:
        script, program, arguments = super()._arguments()
        at = arguments.index("--relay")
        return script, program, [*arguments[:at], *arguments[at + 2 :]]

    def command(self, *words: str) -> list[dict[str, Any]]:
        done = subprocess.run(
            [str(BIN / "quicnprotochat"), *words, "--home", str(self.home), "--json"],
            capture_output=True,
            text=True,
            timeout=60,
            env=environment(),
        )
        assert done.returncode == 0, done.stderr + done.stdout
        return [json.loads(line) for line in done.stdout.splitlines()]


class Scene:
    """Bob reads at `old`, and is to move to `new`, where Ada reads."""

    def __init__(self, folder: Path) -> None:
        ports = free_ports(4)
        self.old, self.new = (
            RelayProgram(name, folder / name, port)
            for name, port in zip(("old", "new"), ports[:2], strict=True)
        )
        self.ada, self.bob = (
            Settled(name, folder, port)
            for name, port in zip(("ada", "bob"), ports[2:], strict=True)
        )

    def start(self) -> Talk:
        for relay in (self.old, self.new):
            relay.folder.mkdir()
            relay.start()
        for node, relay in ((self.ada, self.new), (self.bob, self.old)):
            node.make_home()
            node.start()
            node.device = str(node.ready["device"])
            node.identity = node.call(op.WHOAMI, s.Nothing()).identity
            node.command("relays", "set", relay.address)
            node.call(op.SET_POLICY, ns.SetPolicy("", "relay-only"))
        self.ada.knows(self.bob)
        self.bob.knows(self.ada)
        made = self.ada.call(op.CREATE_GROUP, s.CreateGroup("harbour"))
        self.ada.call(op.INVITE, s.Invite(made.group, [self.bob.identity]))
        self.bob.join(made.group)
        return Talk(made.group, [self.ada, self.bob])

    def read_all(self, talk: Talk) -> None:
        reader = talk.reader(self.bob)

        def everything() -> bool:
            reader.read()
            return {said.id for said in talk.accepted} <= reader.shown.keys()

        wait_until(everything, "Bob is shown everything")
        assert reader.twice == []
        texts = [line.text for line in reader.lines]
        assert len(texts) == len(set(texts)), "something was shown twice"

    def end(self) -> None:
        for program in (self.old, self.new, self.ada, self.bob):
            program.kill()


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    made = Scene(tmp_path)
    try:
        yield made
    finally:
        made.end()


# Some 15 s each: four programs, and silence where one of them was killed.
def test_moving_while_messages_flow_and_the_old_relay_dies(scene: Scene) -> None:
    talk = scene.start()
    talk.must_say(scene.ada)
    scene.read_all(talk)

    def flow() -> None:
        for _ in range(FLOW):
            talk.must_say(scene.ada)

    flowing = threading.Thread(target=flow)
    flowing.start()
    rows = scene.bob.command("relays", "set", scene.new.address)
    scene.old.kill()
    flowing.join()
    assert [(row["relay"], row["order"]) for row in rows] == [
        (scene.new.address, 1),
        (scene.old.address, None),
    ]
    talk.must_say(scene.ada)
    scene.read_all(talk)
    # What Bob is shown is on his disk, and a moment later the relay hears that he has it.
    wait_until(lambda: scene.new.parcels_for(scene.bob.device) == 0, "the new mailbox is emptied")
    assert scene.bob.call(op.WHOAMI, s.Nothing()).relays == [scene.new.address]
    # Whatever the old one kept comes back with it, and is known already.
    scene.old.start()
    wait_until(lambda: scene.old.parcels_for(scene.bob.device) == 0, "the old mailbox is emptied")
    scene.read_all(talk)


def test_what_waits_at_a_relay_that_died_follows_whoever_moved_away(scene: Scene) -> None:
    """Bob is away while messages come and his relay dies; he moves by one command."""
    talk = scene.start()
    talk.must_say(scene.ada)
    scene.read_all(talk)
    scene.bob.stop()
    for _ in range(10):
        talk.must_say(scene.ada)
    wait_until(lambda: scene.old.parcels_for(scene.bob.device) >= 10, "the old relay has them")
    scene.old.kill()
    for _ in range(10):
        talk.must_say(scene.ada)
    scene.bob.command("relays", "set", scene.new.address)
    assert scene.ada.call(op.WHOAMI, s.Nothing()).relays == [scene.new.address]
    scene.bob.start()
    scene.read_all(talk)
