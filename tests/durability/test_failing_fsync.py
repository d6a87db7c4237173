"""Real processes whose disk reports EIO when the database is synced: nothing is acknowledged that
is not on disk, they live on and recover, and nothing accepted is lost to a kill -9 meanwhile."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from node.api import operations as op
from node.api import shapes as s
from schemas.errors import Fault
from simulation.processes.talk import Talk, wait_until
from tests.durability.conftest import Worlds, not_for_a_while
from tests.durability.programs import NodeProgram, Program, World

HERE = Path(__file__).parent
REFUSED = ["no, once", "no, twice", "no, three times"]


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
    """Several: the first one's frames in the log are written over by the second's."""
    for text in REFUSED:
        with pytest.raises(Fault) as raised:
            sender.call(op.SEND, s.Send(text, talk.group))
        assert raised.value.code == "disk-error"
        assert "disk" in raised.value.hint


def turned_down(sender: NodeProgram) -> int:
    """How often a relay whose disk fails took nothing of theirs."""
    return len(re.findall("took nothing: .*store-unavailable", sender.log.read_text()))


def fresh(worlds: Worlds) -> tuple[World, Talk]:
    world = worlds.get()
    talk = world.talk(world.ada, world.bob)
    talk.check()
    return world, talk


# Takes 15 s: an arrival that could not be written is tried again after ten.
def test_a_node_acknowledges_nothing_that_was_not_synced_and_recovers(worlds: Worlds) -> None:
    world, talk = fresh(worlds)
    ada, bob = world.ada, world.bob
    with failing_fsync(ada):
        arriving = talk.must_say(bob)
        not_for_a_while(bob, arriving.id, ada)
        refused(talk, ada)
        assert not ada.dead, "one bad moment of the disk ended the node"
    talk.check()
    worlds.spoilt = False


def test_what_was_refused_is_not_sent_by_the_next_process(worlds: Worlds) -> None:
    """It stands whole in the log, where SQLite's recovery would find it."""
    world, talk = fresh(worlds)
    ada = world.ada
    with failing_fsync(ada):
        refused(talk, ada)
        ada.kill()
    log = ada.database.with_name(f"{ada.database.name}-wal").read_bytes()
    assert REFUSED[-1].encode() in log, "it never came as far as the disk: not a test of it"
    ada.start()
    talk.check()
    worlds.spoilt = False


def test_a_node_does_not_start_on_a_log_that_cannot_be_synced(worlds: Worlds) -> None:
    world, talk = fresh(worlds)
    ada = world.ada
    talk.must_say(ada)
    ada.kill()
    with failing_fsync(ada):
        ada.launch()
        with pytest.raises(AssertionError, match="disk-error"):
            ada.wait_ready()
        ada.kill()  # reaped
    ada.start()
    talk.check()
    worlds.spoilt = False


@pytest.mark.parametrize("killed", [False, True], ids=["recovers", "killed"])
def test_a_relay_holds_nothing_that_was_not_synced(worlds: Worlds, killed: bool) -> None:
    world, talk = fresh(worlds)
    ada, bob, relay = world.ada, world.bob, world.relay
    bob.kill()
    before = relay.parcels()
    with failing_fsync(relay):
        turned_down_before = turned_down(ada)
        said = talk.must_say(ada)

        def tried() -> bool:
            assert ada.states(said.id)[bob.device] == "queued", "the relay said that it has it"
            return turned_down(ada) > turned_down_before

        wait_until(tried, "the relay has been asked to hold the message")
        assert relay.parcels() == before
        assert not relay.dead
        if killed:
            relay.kill()
    if killed:
        relay.start()
    wait_until(lambda: relay.parcels() > before, "the relay holds the message")
    bob.start()
    talk.check()
    worlds.spoilt = False
