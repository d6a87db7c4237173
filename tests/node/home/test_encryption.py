"""An encrypted home: nothing readable on disk, one passphrase, and no crash that loses the key."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from identity.sealed_file import Cost
from node import encryption
from node.encryption import change_passphrase, is_encrypted
from node.engine import commands as c
from node.engine.core import DEVICE_SEED, DISCOVERY_SECRET, IDENTITY_SEED
from node.home import create_home, open_engine, open_home_database
from node.store.database import Database
from node.store.people import PeopleStore
from schemas.errors import Fault, Refused
from storage.lock import FolderLock
from tests.node.home.commands import Commander

CHEAP = Cost(memory_kib=32, passes=1, lanes=1)
NAME, GROUP, TEXT = "Zelda Quarterstaff", "midnight harbour", "the tide turns at nine"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An encrypted one, passphrase "first", with a group and a message."""
    monkeypatch.setattr(encryption.make_key, "__defaults__", (CHEAP,))
    create_home(tmp_path / "home", NAME, b"first")
    with open_engine(tmp_path / "home", b"first") as engine:
        created = engine.run([c.CreateGroup(GROUP, 1)], 1.8e9).answers[0]
        assert not isinstance(created, Fault)
        engine.run([c.Send(created.group, TEXT)], 1.8e9)  # type: ignore[attr-defined]
    return tmp_path / "home"


def texts(home: Path, passphrase: bytes | None) -> list[str]:
    with open_home_database(home, passphrase) as connection:
        return [row[0] for row in connection.execute("SELECT text FROM messages")]


def refusal(home: Path, passphrase: bytes | None) -> str:
    with pytest.raises(Fault) as raised:
        texts(home, passphrase)
    return raised.value.code


def readable(folder: Path, *needles: bytes) -> dict[str, list[bytes]]:
    """Which files hold which of these."""
    found = {
        path.name: [needle for needle in needles if needle in path.read_bytes()]
        for path in folder.rglob("*")
        if path.is_file()
    }
    return {name: needles for name, needles in found.items() if needles}


def secrets(home: Path, passphrase: bytes | None) -> list[bytes]:
    with open_home_database(home, passphrase) as connection:
        people = PeopleStore(Database(connection))
        names = (IDENTITY_SEED, DEVICE_SEED, DISCOVERY_SECRET)
        found = [people.secret(name) for name in names]
        found += [private for _, private in people.hybrid_keys()]
    return [value for value in found if value]


# --- what a thief of the disk sees


@pytest.mark.parametrize("encrypted", [True, False], ids=["encrypted", "plain"])
def test_nothing_of_an_encrypted_home_is_readable_even_after_kill_9(
    tmp_path: Path, encrypted: bool
) -> None:
    """With the database, its log and whatever else is there, running and killed. The plain home
    shows that the search finds what is there."""
    person = Commander(tmp_path / "home", "correct horse" if encrypted else None)
    person.ask("init", "--name", NAME)
    with person.running() as node:
        group = person.ask("create-group", GROUP)["group"]
        person.ask("send", group, "--msg", TEXT)
        needles = [NAME.encode(), GROUP.encode(), TEXT.encode(), bytes.fromhex(group)]
        seen = [readable(person.home, *needles)]
        node.send_signal(signal.SIGKILL)
        node.wait()
    assert (person.home / "node.db-wal").stat().st_size, "nothing is in the log: no test of it"
    left = shutil.copytree(person.home, tmp_path / "copy", ignore=shutil.ignore_patterns("*.sock"))
    needles += secrets(person.home, b"correct horse" if encrypted else None)
    seen.append(readable(left, *needles))
    if encrypted:
        assert seen == [{}, {}]
        assert person.fails("groups", passphrase=None) == "passphrase-needed"
    else:
        assert all(seen), "the search would not find it"
    assert person.ask("groups")["name"] == GROUP


def test_a_wrong_passphrase_a_changed_key_file_and_a_missing_one(home: Path) -> None:
    assert texts(home, b"first") == [TEXT]
    assert refusal(home, b"second") == "wrong-passphrase"
    assert refusal(home, None) == "passphrase-needed"
    key = home / "database.key"
    good = key.read_bytes()
    assert key.stat().st_mode & 0o777 == 0o600
    key.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    assert refusal(home, b"first") == "wrong-passphrase"
    key.unlink()
    with pytest.raises(Fault, match=r"key file database\.key is missing") as raised:
        texts(home, b"first")
    assert raised.value.code == "database-damaged"
    key.write_bytes(good)
    assert texts(home, b"first") == [TEXT]


# --- set, change, remove


def test_the_passphrase_is_set_changed_and_removed(home: Path) -> None:
    before = secrets(home, b"first")
    change_passphrase(home, b"first", b"second", cost=CHEAP)
    assert refusal(home, b"first") == "wrong-passphrase"
    change_passphrase(home, b"second", None)
    assert texts(home, None) == [TEXT]
    assert not is_encrypted(home)
    assert readable(home, TEXT.encode())
    plain = os.open(home / "node.db", os.O_RDONLY)
    change_passphrase(home, None, b"third", cost=CHEAP)
    assert not os.read(plain, 1 << 24).strip(b"\0"), "the unencrypted file was not wiped"
    os.close(plain)
    assert readable(home, TEXT.encode(), NAME.encode(), *before) == {}
    assert secrets(home, b"third") == before
    assert texts(home, b"third") == [TEXT]
    assert sorted(path.name for path in home.iterdir()) == ["database.key", "lock", "node.db"]
    with open_engine(home, b"third") as engine:  # and the sealed MLS blobs are what they were
        group = engine.run([c.ListGroups()], 1.8e9).answers[0][0]  # type: ignore[index]
        sent = engine.run([c.Send(group.group, "more")], 1.8e9).answers[0]
    assert not isinstance(sent, Fault)


def test_what_cannot_be_asked_for_is_refused(home: Path) -> None:
    def code(old: bytes | None, new: bytes | None) -> str:
        with pytest.raises(Fault) as raised:
            change_passphrase(home, old, new, cost=CHEAP)
        return raised.value.code

    assert code(None, b"x") == "already-encrypted"
    assert code(b"bad", b"x") == code(b"bad", None) == "wrong-passphrase"
    with FolderLock(home):
        assert code(b"first", b"x") == "already-running"
    change_passphrase(home, b"first", None)
    assert code(b"first", b"x") == code(None, None) == "not-encrypted"
    with pytest.raises(Refused) as raised:
        create_home(home, "Other", b"x")
    assert raised.value.code == "home-exists"


STEPS = [(None, b"new"), (b"old", b"new"), (b"old", None)]


@pytest.mark.parametrize("old, new", STEPS, ids=["set", "change", "remove"])
def test_killed_at_any_step_it_opens_with_the_old_or_the_new(
    tmp_path: Path, old: bytes | None, new: bytes | None
) -> None:
    original = tmp_path / "original"
    create_home(original, NAME)
    if old is not None:
        change_passphrase(original, None, old, cost=CHEAP)
    before = secrets(original, old)
    seen = set()
    for step, ended in enumerate(dying(tmp_path, original, old, new)):
        folder = tmp_path / f"{step}"
        opened = [p for p in {old, new} if opens(folder, p)]
        assert len(opened) == 1, f"after step {step} it opens with {opened}"
        assert secrets(folder, opened[0]) == before
        if opened[0] is not None and not ended:
            assert readable(folder, *before) == {}
        seen.add(opened[0])
        shutil.rmtree(folder)
    assert seen == {old, new}, "no step before, or none after: not a test of the middle"


def dying(tmp_path: Path, original: Path, old: bytes | None, new: bytes | None) -> Iterator[bool]:
    """Changes copies 0, 1, 2... of a home, each in a process that ends at its next step; whether
    it did."""
    program = f"""
import os, sys
from pathlib import Path
from identity.sealed_file import Cost
from node.encryption import change_passphrase

original, where = Path({str(original)!r}), Path({str(tmp_path)!r})
import shutil
for last in range(200):
    home = where / str(last)
    shutil.copytree(original, home)
    child = os.fork()
    if child == 0:
        steps = 0
        def count(event, args):
            global steps
            if event in ("open", "os.rename", "os.remove") and str(where) in str(args[0]):
                steps += 1
                if steps > last:
                    os._exit(9)
        sys.addaudithook(count)
        change_passphrase(home, {old!r}, {new!r}, cost=Cost(32, 1, 1))
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    print(code, flush=True)
    if code == 0:
        break
"""
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=60
    )
    codes = [int(line) for line in done.stdout.split()]
    assert codes[-1] == 0, done.stderr
    assert set(codes[:-1]) == {9}, done.stderr
    assert len(codes) > 4
    for code in codes:
        yield code == 9


def opens(home: Path, passphrase: bytes | None) -> bool:
    if is_encrypted(home) != (passphrase is not None):
        return False
    try:
        with open_home_database(home, passphrase):
            return True
    except Refused:
        return False


# --- commands


def test_the_commands_ask_nobody_and_tell_what_is_missing(tmp_path: Path) -> None:
    person = Commander(tmp_path / "home", "one")
    person.ask("init", "--name", "Ada")
    new = tmp_path / "new"
    new.write_text("two\r\n")
    assert person.ask("passphrase") == {"encrypted": True, "home": str(person.home)}
    assert person.ask("passphrase", "change", "--new-passphrase-file", str(new))["encrypted"]
    assert person.fails("whoami") == "wrong-passphrase"
    person.passphrase = "two"
    assert person.ask("whoami")["name"] == "Ada"
    with person.running():
        assert person.ask("whoami", passphrase=None)["name"] == "Ada", "a running node is joined"
        assert person.fails("passphrase", "remove") == "already-running"
    assert not person.ask("passphrase", "remove")["encrypted"]
    assert person.ask("whoami", passphrase=None)["name"] == "Ada"
    person.passphrase = "\n"
    assert person.fails("passphrase", "set") == "bad-passphrase"
