"""Databases of older versions: opened, brought up to date, and nothing of them lost."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from node.engine import commands as c
from node.engine.values import LIVE
from node.home import open_engine, open_home_database
from node.store.database import MIGRATIONS
from relay.store.contract import MailboxName
from relay.store.sqlite.database import MIGRATIONS as RELAY_MIGRATIONS
from relay.store.sqlite.store import SqliteStore
from schemas.errors import Blame, Fault
from schemas.ids import DeviceKey, ParcelId
from schemas.node_service import EnqueueItem
from storage.sqlite import load_migrations, migrate, open_database
from tests.upgrade.unpacked import PEOPLE, SPLIT, rows, schema, unpack, version

NEWEST = len(load_migrations(MIGRATIONS))
RELAY_NEWEST = len(load_migrations(RELAY_MIGRATIONS))


@pytest.mark.parametrize(
    "name, made", [*((name, 1) for name in PEOPLE), *((name, 2) for name in SPLIT)]
)
def test_a_home_of_an_older_version_keeps_every_row(tmp_path: Path, name: str, made: int) -> None:
    home = unpack(name, tmp_path)
    before = rows(home / "node.db")
    assert version(home / "node.db") == made
    with open_home_database(home):
        pass
    after = rows(home / "node.db")
    assert version(home / "node.db") == NEWEST > made
    for table, kept in before.items():
        width = len(kept[0]) if kept else 0
        assert [row[:width] for row in after[table]] == kept, f"{table} is not what it was"


def test_the_fixtures_hold_what_they_are_for(tmp_path: Path) -> None:
    """An empty fixture would pass everything else."""
    found = {name: rows(unpack(name, tmp_path) / "node.db") for name in PEOPLE}
    assert [len(found[name]["messages"]) for name in PEOPLE] == [7, 6, 3, 2]
    assert {row[5] for row in found["ada"]["outbox"]} == {"queued", "held"}
    assert len(found["bob"]["future"]) == 1
    assert {row[0] for row in found["bob"]["cursors"]} == {"all", "half"}
    assert {row[2] for row in found["cy"]["key_packages"]} == {0, 1}
    for name in SPLIT:
        found[name] = rows(unpack(name, tmp_path) / "node.db")
        assert [row[5] for row in found[name]["groups"]] == ["split"]
        assert "group_split" in {row[9] for row in found[name]["ledger"]}
        assert found[name]["outbox"], "of the branch that it was on"
    relay = rows(unpack("relay", tmp_path) / "relay.db")
    assert [row[1] for row in relay["parcels"]] == [3, 4]


@pytest.mark.parametrize("name", [*PEOPLE, *SPLIT])
def test_its_groups_are_usable_at_once(tmp_path: Path, name: str) -> None:
    """Their MLS state, sealed by the first version, is read by this one."""
    home = unpack(name, tmp_path)
    with open_engine(home) as engine:
        now = 1.8e9
        views = engine.run([c.ListGroups()], now).answers[0]
        assert not isinstance(views, Fault), views
        assert views
        for view in views:  # type: ignore[attr-defined]
            if view.accepted and view.status in LIVE:
                sent = engine.run([c.Send(view.group, "after the upgrade")], now).answers[0]
                assert not isinstance(sent, Fault), sent


def test_the_copy_from_before_goes_when_the_engine_has_opened(tmp_path: Path) -> None:
    """Later it would be harmful: who goes back to it uses message keys twice."""
    home = unpack("ada", tmp_path)
    with open_home_database(home):
        copy = rows(home / "node.db.before-upgrade")
        assert copy == rows(unpack("ada", tmp_path / "again") / "node.db")
        assert (home / "node.db.before-upgrade").stat().st_mode & 0o777 == 0o600
    with open_engine(home):
        assert not (home / "node.db.before-upgrade").exists()


def test_without_room_for_the_copy_nothing_is_upgraded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = unpack("ada", tmp_path)

    def full(*_: object, **__: object) -> None:
        raise Fault("disk-full", "the disk is full", blame=Blame.ENVIRONMENT)

    monkeypatch.setattr("node.home.copy_database", full)
    with pytest.raises(Fault, match="full"), open_home_database(home):
        pass
    assert version(home / "node.db") == 1


def test_the_first_version_refuses_a_newer_database_by_name(tmp_path: Path) -> None:
    """As that program's own code does it: with its one migration."""
    home = unpack("bob", tmp_path)
    with open_home_database(home):
        pass
    old = tmp_path / "old"
    old.mkdir()
    first = load_migrations(MIGRATIONS)[0]
    (old / first.name).write_text(first.sql)
    before = rows(home / "node.db")
    connection = open_database(home / "node.db")
    with pytest.raises(Fault) as raised:
        migrate(connection, old)
    connection.close()
    assert raised.value.code == "database-newer"
    assert "upgrade this program" in raised.value.hint
    assert rows(home / "node.db") == before


KILLER = """
import os, sys, shutil
from pathlib import Path
import apsw
from storage.sqlite import migrate, open_database

original, where, migrations = sys.argv[1:]
for last in range(500):
    target = Path(where) / str(last)
    shutil.copytree(original, target)
    if os.fork() == 0:
        connection = open_database(next(target.glob("*.db")))
        steps = 0
        def count(cursor, sql, bindings):
            global steps
            steps += 1
            if steps > last:
                os._exit(9)
            return True
        connection.exec_trace = count
        migrate(connection, migrations)
        os._exit(0)
    if os.waitstatus_to_exitcode(os.wait()[1]) == 0:
        print(last)
        break
"""


@pytest.mark.parametrize(
    "name, migrations", [("ada", MIGRATIONS), ("relay", "relay.store.sqlite.migrations")]
)
def test_killed_at_every_statement_it_is_the_old_or_the_new(
    tmp_path: Path, name: str, migrations: str
) -> None:
    original = unpack(name, tmp_path)
    database = next(original.glob("*.db")).name
    old = {table: set(found) for table, found in rows(original / database).items()}
    where = tmp_path / "killed"
    where.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", KILLER, str(original), str(where), migrations],
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
    )
    steps = int(done.stdout)
    assert steps >= 4, "no statement between the first and the last"
    whole: dict[int, set[str]] = {}  # what each version is made of
    versions = []
    for step in range(steps + 1):
        file = where / str(step) / database
        found = rows(file)
        versions.append(version(file))
        assert schema(file) == whole.setdefault(versions[-1], schema(file)), f"half, at {step}"
        assert all(len(found[table]) == len(kept) for table, kept in old.items())
        shutil.rmtree(where / str(step))
    assert versions == sorted(versions)
    assert set(versions) == set(range(1, len(load_migrations(migrations)) + 1))


async def test_a_relay_hands_out_what_it_had_and_goes_on_counting(tmp_path: Path) -> None:
    folder = unpack("relay", tmp_path)
    before = rows(folder / "relay.db")
    now = int(str(before["parcels"][0][3])) - 86_400
    store = await SqliteStore.open(folder / "relay.db")
    try:
        assert version(folder / "relay.db") == RELAY_NEWEST > 1
        recipient = DeviceKey(before["mailboxes"][0][1])  # type: ignore[arg-type]
        name = MailboxName(recipient)
        found = await store.peek(name, after=0, limit=10, max_bytes=1 << 20, now=now)
        assert [parcel.sequence for parcel in found.parcels] == [3, 4]
        assert {parcel.sealed for parcel in found.parcels} == {row[5] for row in before["parcels"]}
        item = EnqueueItem(recipient, ParcelId(bytes(16)), now + 86_400, b"new")
        await store.enqueue([item], now=now)
        found = await store.peek(name, after=4, limit=10, max_bytes=1 << 20, now=now)
        assert [parcel.sequence for parcel in found.parcels] == [5]
    finally:
        await store.close()
