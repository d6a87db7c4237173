"""Real processes whose disk reports EIO when the database is synced: nothing is acknowledged that
is not on disk, they live on and recover, and nothing accepted is lost to a kill -9 meanwhile."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from schemas.errors import Fault
from tests.durability.conftest import Worlds
from tests.durability.programs import NodeProgram, Program, Talk, World, wait_until

HERE = Path(__file__).parent
REFUSED_TRIES = 3


@pytest.fixture(scope="module", autouse=True)
def preloaded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Every program of this module runs with the library of failing_fsync.c."""
    compiler = shutil.which("cc")
    assert compiler, "a C compiler is needed, as for `make setup`"
    library = tmp_path_factory.mktemp("shim") / "failing_fsync.so"
    source = HERE / "failing_fsync.c"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LD_PRELOAD", str(library))
        yield


@contextmanager
def failing_fsync(program: Program) -> Iterator[None]:
    marker = program.database.with_name(f"{program.database.name}.fsync-fails")
    marker.touch()
    try:
        yield
    finally:
        marker.unlink()


def refused(talk: Talk, sender: NodeProgram) -> None:
    with pytest.raises(Fault) as raised:
        talk.say(sender)
    assert raised.value.code == "disk-error"
    assert "disk" in raised.value.hint


def not_for_a_while(talk: Talk, sender: NodeProgram, message: str, recipient: NodeProgram) -> None:
    """No receipt of theirs within a second."""
    until = time.monotonic() + 1.0
    while time.monotonic() < until:
        assert sender.states(message)[recipient.device] in ("queued", "held"), "acknowledged"


def fresh(worlds: Worlds) -> tuple[World, Talk]:
    world = worlds.get()
    talk = world.talk(world.ada, world.bob)
    talk.check()
    return world, talk


@pytest.mark.parametrize("killed", [False, True], ids=["recovers", "killed"])
def test_a_node_acknowledges_nothing_that_was_not_synced(worlds: Worlds, killed: bool) -> None:
    world, talk = fresh(worlds)
    ada, bob = world.ada, world.bob
    with failing_fsync(ada):
        for _ in range(REFUSED_TRIES):
            refused(talk, ada)
        arriving = talk.must_say(bob)
        not_for_a_while(talk, bob, arriving.id, ada)
        assert not ada.dead, "one bad moment of the disk ended the node"
        if killed:
            ada.kill()
    if killed:
        ada.start()
    talk.check()  # what was refused is not there, either: nobody is told no and heard all the same
    worlds.spoilt = False


@pytest.mark.parametrize("killed", [False, True], ids=["recovers", "killed"])
def test_a_relay_holds_nothing_that_was_not_synced(worlds: Worlds, killed: bool) -> None:
    world, talk = fresh(worlds)
    ada, bob, relay = world.ada, world.bob, world.relay
    bob.kill()
    before = relay.parcels()
    with failing_fsync(relay):
        said = talk.must_say(ada)
        not_for_a_while(talk, ada, said.id, bob)
        assert relay.parcels() == before
        assert ada.states(said.id)[bob.device] == "queued", "the relay said that it has it"
        assert not relay.dead
        if killed:
            relay.kill()
    if killed:
        relay.start()
    wait_until(lambda: relay.parcels() > before, "the relay holds the message")
    bob.start()
    talk.check()
    worlds.spoilt = False
