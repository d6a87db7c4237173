"""A database, or its log, that is moved or replaced while a node runs: SQLite would go on writing
to what is gone when the process ends, so the node accepts and acknowledges nothing until it is
back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw
import pytest

from node.api import operations as op
from node.api import shapes as s
from node.store.database import Database
from schemas.errors import Fault
from simulation.processes.talk import Talk
from storage.sqlite import open_database
from tests.durability.conftest import Worlds, not_for_a_while
from tests.durability.programs import NodeProgram

FILES = ("node.db", "node.db-wal")


@contextmanager
def taken(node: NodeProgram, name: str) -> Iterator[None]:
    """Somebody puts a copy in its place without stopping the node, and thinks better of it."""
    file, elsewhere = node.home / name, node.home / "elsewhere"
    file.rename(elsewhere)
    file.write_bytes(b"")
    try:
        yield
    finally:
        elsewhere.rename(file)


def refused(talk: Talk, sender: NodeProgram) -> None:
    with pytest.raises(Fault) as raised:
        sender.call(op.SEND, s.Send("no", talk.group))
    assert raised.value.code == "database-replaced"
    assert "put it back" in raised.value.hint


def test_a_node_accepts_and_acknowledges_nothing_into_a_file_that_is_gone(worlds: Worlds) -> None:
    world = worlds.get()
    ada, bob = world.ada, world.bob
    talk = world.talk(ada, bob)
    talk.check()
    for name in FILES:
        with taken(ada, name):
            refused(talk, ada)
            arriving = talk.must_say(bob)
            not_for_a_while(bob, arriving.id, ada)
            assert not ada.dead
        talk.must_say(ada)  # it goes on by itself
    ada.kill()
    ada.start()
    talk.check()  # a "no" that came out would be told, too
    worlds.spoilt = False


def table_of(folder: Path) -> apsw.Connection:
    connection = open_database(folder / "node.db")
    connection.execute("CREATE TABLE t (x)")
    return connection


@pytest.mark.parametrize("name", FILES)
def test_a_file_taken_in_the_moment_of_the_commit_is_noticed(tmp_path: Path, name: str) -> None:
    connection = table_of(tmp_path)
    database = Database(connection)

    def take() -> bool:
        (tmp_path / name).rename(tmp_path / "elsewhere")
        return False  # let it commit

    connection.set_commit_hook(take)
    undone = database.undone
    with pytest.raises(Fault) as raised, database.transaction():
        database.run("INSERT INTO t VALUES (1)")
    assert raised.value.code == "database-replaced"
    assert database.undone > undone, "what is kept in memory of it must be read again"
    connection.set_commit_hook(None)
    connection.close()


def test_what_is_written_while_the_file_is_away_is_undone(tmp_path: Path) -> None:
    """So that "refused" is true when it is put back: a user who repeats says it once."""
    connection = table_of(tmp_path)
    database = Database(connection)
    (tmp_path / "node.db").rename(tmp_path / "elsewhere")
    with pytest.raises(Fault), database.transaction():
        database.run("INSERT INTO t VALUES (1)")
    (tmp_path / "elsewhere").rename(tmp_path / "node.db")
    assert database.rows("SELECT x FROM t") == []
    connection.close()
