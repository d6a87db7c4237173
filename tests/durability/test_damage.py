"""A database that was tampered with or rots: one group is out of order and says why, nothing else
is, and the process lives."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import apsw
import mls_rs
import pytest

from node.engine import commands as c
from node.engine.engine import Engine
from node.home import open_engine
from schemas.errors import Fault
from tests.node.engine.world import World
from tests.upgrade.unpacked import unpack

NOW = 1.8e9
BLOBS = [
    ("group_state", "blob", "group_id"),
    ("group_tree", "blob", "group_id"),
    ("epochs", "blob", "group_id"),
    ("snapshots", "state", "group_id"),
    ("snapshots", "tree", "group_id"),
    ("commits", "header", "group_id"),
    ("statements", "signed", "group_id"),
]


def home_of_ada(tmp_path: Path) -> Path:
    """With groups `harbour` (two epochs back), `slip`, `mole`, and one to one; brought up to
    date."""
    home = unpack("ada", tmp_path)
    with open_engine(home):
        pass
    return home


def damage(home: Path, table: str, column: str, key: str, how: str) -> bytes:
    """Damages all of `harbour`'s rows of a table; its id."""
    connection = apsw.Connection(str(home / "node.db"))
    group: bytes = connection.execute("SELECT id FROM groups WHERE name = 'harbour'").get
    rows = connection.execute(
        f"SELECT DISTINCT {column} FROM {table} WHERE {key} = ? AND {column} IS NOT NULL", (group,)
    ).fetchall()
    for row in rows:
        value = row[0]
        assert isinstance(value, bytes)
        changed = {
            "flipped": bytes([*value[:-1], value[-1] ^ 1]) if value else b"x",
            "short": value[: len(value) // 2],
            "empty": b"",
            "noise": random.Random(1).randbytes(len(value) + 7),
        }[how]
        connection.execute(
            f"UPDATE {table} SET {column} = ? WHERE {key} = ? AND {column} = ?",
            (changed, group, value),
        )
    connection.close()
    return group


def answer(engine: Engine, command: c.Command[Any]) -> Any:
    return engine.run([command], NOW).answers[0]


@pytest.mark.parametrize("how", ["flipped", "short", "empty", "noise"])
@pytest.mark.parametrize("table, column, key", BLOBS)
def test_a_damaged_group_leaves_the_others_alone(
    tmp_path: Path, table: str, column: str, key: str, how: str
) -> None:
    home = home_of_ada(tmp_path)
    hurt = damage(home, table, column, key, how)
    with open_engine(home) as engine:
        assert not isinstance(answer(engine, c.Tick()), Fault)
        views = answer(engine, c.ListGroups())
        assert not isinstance(views, Fault), "one damaged group hides all of them"
        assert len(views) == 4
        for view in views:
            sent = answer(engine, c.Send(view.group, "still here"))
            if view.group != hurt:
                assert not isinstance(sent, Fault), "another group does not work"
            elif isinstance(sent, Fault):
                assert sent.code != "internal"
        for command in (c.UpdateKey, c.Leave):
            answer(engine, command(views[0].group))  # and none of them is a bug
        assert not isinstance(answer(engine, c.Tick()), Fault)
        unread = answer(engine, c.ReadMessages("fresh", None, 100))
        assert len(unread) == 2


@pytest.mark.parametrize("table, column", [("group_state", "blob"), ("group_tree", "blob")])
def test_a_group_without_its_keys_says_so(tmp_path: Path, table: str, column: str) -> None:
    home = home_of_ada(tmp_path)
    hurt = damage(home, table, column, "group_id", "flipped")
    with open_engine(home) as engine:
        views = {view.group: view for view in answer(engine, c.ListGroups())}
        assert views[hurt].status == "damaged"
        assert {view.status for group, view in views.items() if group != hurt} == {"active"}
        sent = answer(engine, c.Send(views[hurt].group, "?"))
        assert isinstance(sent, Fault)
        assert sent.code == "group-damaged"
        assert "invite" in sent.hint


@pytest.mark.parametrize("removed_first", [False, True])
def test_who_was_invited_again_has_a_damaged_group_back(
    tmp_path: Path, removed_first: bool
) -> None:
    world = World(tmp_path)
    ada, bob = world.friends("Ada", "Bob")
    group = ada.create("harbour", mls_rs.CLASSIC, bob)
    world.settle()
    bob.ask(c.Join(group))
    ada.send(group, "before")
    world.settle()
    bob.database.execute("UPDATE group_state SET blob = substr(blob, 2)")
    bob.restart()
    assert bob.view(group).status == "damaged"
    message = ada.send(group, "kept for him")
    world.settle()
    assert ada.states(message) == {"Bob": "queued"}, "an unreadable message was taken"

    epoch = ada.view(group).epoch
    if removed_first:
        ada.ask(c.RemoveMember(group, bob.identity))
    ada.ask(c.Invite(group, (bob.identity,), (bob.key_package(mls_rs.CLASSIC),)))
    world.settle(60.0)
    bob.ask(c.Join(group))
    bob.send(group, "here again")
    ada.send(group, "welcome back")
    world.settle(60.0)
    # What waits for a member is sealed again for their new leaf; who was removed is no member.
    kept = [] if removed_first else ["kept for him"]
    assert (bob.view(group).status, bob.read()) == ("active", ["before", *kept, "welcome back"])
    assert ada.read() == ["here again"]
    assert ada.view(group).epoch == epoch + 1 + removed_first, "one commit"
    assert len(ada.view(group).members) == 2
    told = ada.states(message)["Bob"]
    assert told == "refused" if removed_first else told in ("delivered", "read"), told


def test_who_had_lost_nothing_and_is_invited_again_is_a_member_anew(tmp_path: Path) -> None:
    world = World(tmp_path)
    ada, bob, cy = world.friends("Ada", "Bob", "Cy")
    group = ada.create("harbour", mls_rs.CLASSIC, bob, cy)
    world.settle()
    for person in (bob, cy):
        person.ask(c.Join(group))
    bob.send(group, "before")
    world.settle()
    ada.ask(c.Invite(group, (bob.identity,), (bob.key_package(mls_rs.CLASSIC),)))
    world.settle(60.0)
    bob.ask(c.Join(group))
    for number, person in enumerate((ada, bob, cy)):
        assert len(person.view(group).members) == 3
        person.send(group, f"after {number}")
    world.settle(60.0)
    assert sorted(bob.read()) == ["after 0", "after 2"]
    assert sorted(cy.read()) == ["after 0", "after 1", "before"]
    refused = cy.engine.run(
        [c.Invite(group, (bob.identity,), (bob.key_package(mls_rs.CLASSIC),))], world.now
    ).answers[0]
    assert isinstance(refused, Fault)
    assert refused.code == "not-an-admin", "any member can take somebody's place in the group"


@pytest.mark.parametrize("seed", range(12))
def test_bytes_changed_anywhere_in_the_file_end_in_a_fault_or_in_nothing(
    tmp_path: Path, seed: int
) -> None:
    home = home_of_ada(tmp_path)
    chance = random.Random(seed)
    data = bytearray((home / "node.db").read_bytes())
    for _ in range(1 + seed * 8):
        data[chance.randrange(0 if seed else 100, len(data))] ^= 1 << chance.randrange(8)
    (home / "node.db").write_bytes(data)
    fault = None
    try:
        with open_engine(home) as engine:
            for command in (c.Tick(), c.ListGroups(), c.ReadMessages("x", None, 50), c.WhoAmI()):
                answer(engine, command)
    except Fault as found:
        fault = found
    assert fault is None or fault.code in ("database-damaged", "database-newer"), fault
