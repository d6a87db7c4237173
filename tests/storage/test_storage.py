"""What would break for a user: lost acknowledged mail, readable secrets, two writers at once."""

from __future__ import annotations

import hashlib
import hmac
import stat
import subprocess
import sys
from pathlib import Path

import apsw
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from schemas.errors import Blame, Fault
from storage.files import make_private_folder, write_private_file
from storage.lock import FolderLock
from storage.sqlite import (
    check_durable,
    copy_database,
    database_version,
    is_plain,
    load_migrations,
    migrate,
    open_database,
    transaction,
)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def write_migrations(folder: Path, *statements: str) -> Path:
    folder.mkdir(exist_ok=True)
    for number, sql in enumerate(statements, 1):
        (folder / f"{number:04}_step.sql").write_text(sql)
    return folder


def test_a_live_connection_syncs_every_commit(tmp_path: Path) -> None:
    connection = open_database(tmp_path / "a.db")
    assert connection.pragma("journal_mode") == "wal"
    assert connection.pragma("synchronous") == 2
    assert connection.pragma("foreign_keys") == 1
    connection.pragma("synchronous", "normal")
    with pytest.raises(Fault) as raised:
        check_durable(connection)
    assert raised.value.code == "not-durable"
    connection.close()


def test_database_and_its_journal_are_private(tmp_path: Path) -> None:
    connection = open_database(tmp_path / "a.db")
    connection.execute("CREATE TABLE t(x)")
    assert {mode(path) for path in tmp_path.iterdir()} == {0o600}
    assert len(list(tmp_path.iterdir())) == 3
    connection.close()


def test_a_keyed_database_opens_with_its_key_only(tmp_path: Path) -> None:
    path, key = tmp_path / "a.db", bytes(range(32))
    connection = open_database(path, key=key)
    connection.execute("CREATE TABLE t(x); INSERT INTO t VALUES ('attack at dawn')")
    connection.close()
    assert b"attack at dawn" not in path.read_bytes()
    for wrong, code in ((bytes(32), "wrong-database-key"), (None, "database-damaged")):
        with pytest.raises(Fault) as raised:
            open_database(path, key=wrong)
        assert raised.value.code == code
    connection = open_database(path, key=key)
    assert connection.execute("SELECT x FROM t").get == "attack at dawn"
    connection.close()


def test_migrations_run_once_in_order_and_resume(tmp_path: Path) -> None:
    first = "CREATE TABLE t(x); INSERT INTO t VALUES (1)"
    steps = write_migrations(tmp_path / "steps", first)
    connection = open_database(tmp_path / "a.db")
    migrate(connection, steps)
    migrate(connection, write_migrations(steps, first, "UPDATE t SET x = x + 1"))
    migrate(connection, steps)
    assert connection.execute("SELECT x FROM t").get == 2
    assert database_version(connection) == 2
    connection.close()


def test_a_migration_goes_on_after_a_statement_that_answers_rows(tmp_path: Path) -> None:
    steps = write_migrations(tmp_path / "steps", "CREATE TABLE t(x); SELECT 1; CREATE TABLE u(x)")
    connection = open_database(tmp_path / "a.db")
    migrate(connection, steps)
    assert connection.execute("SELECT count(*) FROM u").get == 0
    connection.close()


def test_a_failing_migration_leaves_the_version_before_it(tmp_path: Path) -> None:
    steps = write_migrations(
        tmp_path / "steps", "CREATE TABLE t(x)", "INSERT INTO t VALUES (1); NONSENSE"
    )
    connection = open_database(tmp_path / "a.db")
    with pytest.raises(apsw.SQLError):
        migrate(connection, steps)
    assert database_version(connection) == 1
    assert connection.execute("SELECT count(*) FROM t").get == 0
    connection.close()


def test_a_newer_database_is_refused_untouched(tmp_path: Path) -> None:
    steps = write_migrations(tmp_path / "steps", "CREATE TABLE t(x)")
    connection = open_database(tmp_path / "a.db")
    connection.pragma("user_version", 7)
    with pytest.raises(Fault) as raised:
        migrate(connection, steps)
    assert raised.value.code == "database-newer"
    assert raised.value.blame is Blame.ENVIRONMENT
    assert "upgrade" in raised.value.hint
    connection.close()


def test_migrations_with_a_gap_are_a_bug(tmp_path: Path) -> None:
    (tmp_path / "0001_a.sql").write_text("")
    (tmp_path / "0003_b.sql").write_text("")
    with pytest.raises(ValueError, match="count 1, 2, 3"):
        load_migrations(tmp_path)


def test_a_transaction_that_raises_leaves_nothing(tmp_path: Path) -> None:
    connection = open_database(tmp_path / "a.db")
    connection.execute("CREATE TABLE t(x)")
    with pytest.raises(apsw.SQLError), transaction(connection):
        connection.execute("INSERT INTO t VALUES (1); INSERT INTO nowhere VALUES (1)")
    assert connection.execute("SELECT count(*) FROM t").get == 0
    connection.close()


def test_a_damaged_file_is_named_as_such(tmp_path: Path) -> None:
    (tmp_path / "a.db").write_bytes(b"not a database at all" * 100)
    with pytest.raises(Fault) as raised:
        open_database(tmp_path / "a.db")
    assert raised.value.code == "database-damaged"


def test_one_process_per_folder(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "home"
    probe = (
        "import sys; from pathlib import Path; from storage.lock import FolderLock\n"
        "from schemas.errors import Fault\n"
        "try: FolderLock(Path(sys.argv[1])).acquire(); print('in')\n"
        "except Fault as fault: print(fault.code)\n"
    )

    def other_process() -> str:
        command = [sys.executable, "-c", probe, str(folder)]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    with FolderLock(folder) as lock:
        assert lock.held
        assert mode(folder) == 0o700
        assert other_process() == "already-running"
        with pytest.raises(Fault) as raised:
            FolderLock(folder).acquire()
        assert raised.value.blame is Blame.ENVIRONMENT
        assert raised.value.hint
    assert other_process() == "in"


def test_private_files_are_whole_and_private(tmp_path: Path) -> None:
    write_private_file(tmp_path / "seed", b"1" * 32)
    write_private_file(tmp_path / "seed", b"2" * 32)
    assert (tmp_path / "seed").read_bytes() == b"2" * 32
    assert mode(tmp_path / "seed") == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["seed"]


def test_only_an_empty_folder_is_tightened(tmp_path: Path) -> None:
    empty, used = tmp_path / "empty", tmp_path / "used"
    for folder in (empty, used):
        folder.mkdir(mode=0o755)
    (used / "other").touch()
    make_private_folder(empty)
    make_private_folder(used)
    assert (mode(empty), mode(used)) == (0o700, 0o755)
    with pytest.raises(Fault) as raised:
        make_private_folder(used / "other" / "below")
    assert raised.value.code == "cannot-use-folder"


def test_an_encrypted_database_is_a_sqlcipher_4_file(tmp_path: Path) -> None:
    """Read by nothing but its documentation: AES-256-CBC, HMAC-SHA512, 80 bytes reserved a page."""
    key, path = bytes(range(32)), tmp_path / "a.db"
    connection = open_database(path, key=key)
    connection.execute("CREATE TABLE t(x)")
    connection.close()
    assert not is_plain(path)
    page = path.read_bytes()[:4096]
    salt, body, iv, tag = page[:16], page[16:4016], page[4016:4032], page[4032:]
    mac_key = hashlib.pbkdf2_hmac("sha512", key, bytes(b ^ 0x3A for b in salt), 2, 32)
    covered = body + iv + (1).to_bytes(4, "little")
    assert hmac.digest(mac_key, covered, "sha512") == tag
    opened = Cipher(algorithms.AES(key), modes.CBC(iv)).decryptor().update(body)
    assert opened[:2] == (4096).to_bytes(2, "big")  # SQLite's header from its 16th byte: page size


@pytest.mark.parametrize("key, target_key", [(None, b"2" * 32), (b"1" * 32, None)])
def test_a_copy_is_whole_and_under_its_own_key(
    tmp_path: Path, key: bytes | None, target_key: bytes | None
) -> None:
    path, target = tmp_path / "a?b#c.db", tmp_path / "copy of a%.db"
    connection = open_database(path, key=key)
    connection.execute("CREATE TABLE t(x); INSERT INTO t VALUES ('here'); PRAGMA user_version = 5")
    copy_database(path, target, key=key, target_key=target_key)
    connection.close()
    assert (mode(target), is_plain(target)) == (0o600, target_key is None)
    copied = open_database(target, key=target_key)
    assert copied.execute("SELECT x FROM t").get == "here"
    assert database_version(copied) == 5
    copied.close()
