"""Each column of each table edited by hand: never a crash, never one bad row that hides the others,
and what was lost is told."""

from __future__ import annotations

import contextlib
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest

from identity.signing import sign
from node.engine import commands as c
from node.engine import delivery_commands as d
from node.engine.engine import Engine
from node.engine.values import Event
from node.home import open_engine, open_home_database
from node.store.damage import mend
from node.store.database import MIGRATIONS, Database
from schemas.errors import Fault
from schemas.group_records import Intent, IntentKind
from schemas.ids import IntentId
from schemas.records import SignedType
from storage.sqlite import load_migrations
from tests.upgrade.unpacked import unpack

NOW = 1.8e9
VALUES = {
    "BLOB": ["x'01'", "CAST('thirty-three bytes, all of a text' AS BLOB)", "NULL"],
    "INTEGER": ["-1", f"{1 << 62}", "NULL"],
    "REAL": ["-1.0", "9e999"],
    "TEXT": ["'nonsense'", "CAST(x'fffe' AS TEXT)", "NULL"],
    "ANY": ["x'01'", "'nonsense'", "CAST(x'fffe' AS TEXT)"],
}
ROWS = """
INSERT INTO blocked VALUES (zeroblob(32), 1.0);
INSERT INTO bundle_privates VALUES (zeroblob(32), 1, zeroblob(32), zeroblob(32));
INSERT INTO tree_chunks VALUES (zeroblob(32), 0, 1.0, zeroblob(9));
INSERT INTO seen_parcels VALUES (zeroblob(32), 1e10, NULL, NULL);
INSERT INTO future SELECT 1, group_id, 1, zeroblob(32), 'direct', body, 1.0, NULL
  FROM payloads LIMIT 1;
INSERT INTO ciphertexts SELECT id, zeroblob(32), 1, epoch_id, zeroblob(9), 1e10 FROM groups;
INSERT INTO equivocations SELECT group_id, device, signed, signed FROM statements LIMIT 1;
INSERT INTO carried_key_packages VALUES (zeroblob(32), zeroblob(32), 1, zeroblob(9), 1e10, 0);
INSERT INTO welcomes SELECT group_id, zeroblob(32), body, 1.0 FROM payloads LIMIT 1;
"""  # of tables that are empty in the fixture


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ada's home, with at least one row in each table."""
    home = unpack("ada", tmp_path_factory.mktemp("original"))
    with open_engine(home) as engine:
        _, groups = User(engine).must(d.MakeKeyPackage(1), c.ListGroups())
        group = groups[0].group
        wish = Intent(IntentId(bytes(16)), group, engine.device.public, IntentKind.LEAVE)
        signed = sign(SignedType.INTENT, engine.device, wish.encode()).encode()
    with apsw.Connection(str(home / "node.db")) as connection:
        connection.execute(ROWS)
        row = (group, wish.id, wish.author, signed, NOW)
        connection.execute("INSERT INTO intents VALUES (?, ?, ?, ?, ?, 0, x'0100000041')", row)
    with open_engine(shutil.copytree(home, home.with_name("untouched"))) as engine:
        user = User(engine)
        user.look_at_everything()
        assert "database-damaged" not in user.events
    return home


TABLES = re.findall(
    r"CREATE TABLE (\w+)", "".join(each.sql for each in load_migrations(MIGRATIONS))
)


def edits(home: Path, table: str) -> Iterator[str]:
    """SQL that spoils one value of the table's first row."""
    with apsw.Connection(str(home / "node.db")) as connection:
        columns = connection.execute(
            "SELECT name, type, pk FROM pragma_table_info(?)", (table,)
        ).fetchall()
        keys = ", ".join(str(name) for name, _, key in columns if key)
        for name, kind, _ in columns:
            for value in VALUES[str(kind)]:
                first = f"({keys}) = (SELECT {keys} FROM {table} LIMIT 1)"
                yield f"UPDATE OR REPLACE {table} SET {name} = {value} WHERE {first}"


def edited(home: Path, sql: str) -> bool:
    """False when the schema itself refuses it."""
    connection = apsw.Connection(str(home / "node.db"))
    try:
        connection.execute(sql)
    except (apsw.ConstraintError, apsw.MismatchError):
        return False
    finally:
        connection.close()
    return True


class User:
    """Asks for everything that reads the database."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.events: list[str] = []

    def ask(self, *commands: c.Command[Any]) -> list[Any]:
        result = self.engine.run(commands, NOW)
        self.events += [each.kind for each in result.effects if isinstance(each, Event)]
        return list(result.answers)

    def must(self, *commands: c.Command[Any]) -> list[Any]:
        answers = self.ask(*commands)
        assert not [each for each in answers if isinstance(each, Fault)], "one row hides others"
        return answers

    def look_at_everything(self) -> None:
        _, groups, contacts, *_ = self.must(
            *(c.Tick(), c.ListGroups(), c.ListContacts(), c.WhoAmI(), d.OwnRecords()),
            *(c.ListRequests(), c.ListBlocked(), d.PeersToGreet(), d.PendingCount()),
            *(c.ReadMessages("x", None, 50), c.TakeBackup()),
        )
        assert len(groups) >= 3
        histories = self.must(*(c.ReadHistory(each.group, 0, 50) for each in groups))
        self.must(*(c.ExamineGroup(each.group) for each in groups))
        self.must(*(c.FindGroup(each.group.hex(), standings=True) for each in groups))
        own = [message.message.hex() for each in histories for message in each if message.own]
        self.must(*(c.ReadLedger(each) for each in own), *(c.Why(each) for each in own))
        devices = {
            device for group in groups for member in group.members for device in member.devices
        }
        self.must(*(d.TakeDue(device) for device in devices), c.Tick())
        sent = self.ask(*(c.Send(each.group, "hi") for each in groups))
        codes = [each.code for each in sent if isinstance(each, Fault)]
        assert len(codes) <= 1, "more than the one group is out of order"
        assert set(codes) <= {"group-damaged", "not-accepted"}


@pytest.fixture
def fast(tmp_path: Path) -> Iterator[Path]:
    """In memory where there is such a folder: hundreds of homes, and no power will fail."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else tmp_path) as folder:
        yield Path(folder)


@pytest.mark.parametrize("table", TABLES)
def test_no_value_in_any_column_stops_the_node(
    original: Path, fast: Path, table: str, caplog: pytest.LogCaptureFixture
) -> None:
    tried = 0
    for number, sql in enumerate(edits(original, table)):
        home = shutil.copytree(original, fast / f"{number}")
        if not edited(home, sql):
            continue
        tried += 1
        caplog.clear()
        with contextlib.ExitStack() as stack:
            try:
                user = User(stack.enter_context(open_engine(home)))
            except Fault as fault:
                refused = table in ("secrets", "hybrid_keys") and fault.code
                if refused not in ("database-damaged", "no-account"):
                    raise
                continue
            user.look_at_everything()
        if "database-damaged" in user.events:
            assert "the database was damaged" in caplog.text
            with open_engine(home) as engine:
                user = User(engine)
                user.look_at_everything()
            assert "database-damaged" not in user.events, "found again after it was mended"
    assert tried >= 2, "not a test of this table"


@pytest.mark.parametrize(
    "table, column, bad, left",
    [
        ("commits", "header", "x'01'", None),
        ("commits", "entered", "9e999", 0.0),
        ("equivocations", "first", "x'01'", None),
        ("welcomes", "body", "x'01'", None),
        ("intents", "key_packages", "x'0500000041'", b""),
        ("key_packages", "used", "9e999", 0.0),
        ("ledger", "carrier", "x'01'", "null"),
    ],
)
def test_what_groups_that_converge_rest_on_is_mended_or_dropped(
    original: Path, fast: Path, table: str, column: str, bad: str, left: object
) -> None:
    """`left` is what the column holds then; None, when the row is gone."""
    home = shutil.copytree(original, fast / "home")
    with open_home_database(home) as connection:
        database = Database(connection)
        columns = database.rows("SELECT name, pk FROM pragma_table_info(?)", table)
        keys = ", ".join(name for name, key in columns if key)
        first = f"({keys}) = (SELECT {keys} FROM {table} LIMIT 1)"
        before = database.value(f"SELECT count(*) FROM {table}")
        database.run(f"UPDATE {table} SET {column} = {bad} WHERE {first}")
        assert mend(database)[table] == 1
        after = database.value(f"SELECT count(*) FROM {table}")
        assert after == before - (left is None)
        if left is not None:
            value = f"coalesce({column}, 'null')"
            assert (left,) in database.rows(f"SELECT {value} FROM {table} WHERE {first}")
        assert mend(database) == {}
