"""SQLite as this project opens it: WAL, synchronous=FULL, private, and migrated by numbered SQL."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from urllib.parse import quote

import apsw

from schemas.errors import Blame, Fault
from storage.files import make_private_file

BUSY_TIMEOUT_MS = 5_000
RAW_KEY_LENGTH = 32
_STATEMENTS = 512  # kept prepared; of apsw's own 100, a busy node prepares half again and again
_CACHE_KIB = 8192  # a page that is not in memory is read, and deciphered, anew
_LOG_PAGES = 2000  # 8 MiB of log; with the 1000 of SQLite, twice the copying into the database
_SYNCHRONOUS_FULL = 2
_OPEN = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE | apsw.SQLITE_OPEN_URI
_PLAIN = b"SQLite format 3\0"  # where an encrypted database has its salt
_CIPHER = "sqlcipher"
_SQLCIPHER_4 = 4  # without it, sqlite3mc leaves eight bytes of the header readable
_MIGRATION = re.compile(r"(\d{4})_[a-z0-9_]+\.sql")


def open_database(path: Path, *, key: bytes | None = None) -> apsw.Connection:
    """A connection to the database at `path`, made with mode 0600 when there is none.

    `key` is a raw 32-byte key: the file is then in the SQLCipher 4 format. Every setting that
    durability depends on is read back. A connection belongs to one thread at a time.

    Raises Fault: `wrong-database-key`, `database-damaged`, `cannot-open-database`, or another of
    `blaming_the_disk`.
    """
    if key is not None and len(key) != RAW_KEY_LENGTH:
        raise ValueError(f"a database key is {RAW_KEY_LENGTH} bytes")
    with blaming_the_disk():
        make_private_file(path)
        connection = apsw.Connection(str(path), flags=_OPEN, statementcachesize=_STATEMENTS)
    try:
        with blaming_the_disk(keyed=key is not None):
            connection.set_busy_timeout(BUSY_TIMEOUT_MS)
            if key is not None:
                connection.pragma("cipher", _CIPHER)
                connection.pragma("legacy", _SQLCIPHER_4)
                connection.execute(f'PRAGMA key = "{_raw(key)}"')
            # WAL with synchronous=NORMAL loses acknowledged work on power loss.
            mode = connection.pragma("journal_mode", "wal")
            connection.pragma("synchronous", "full")
            connection.pragma("foreign_keys", True)
            connection.pragma("trusted_schema", False)
            connection.pragma("temp_store", "memory")  # temporary files would not be encrypted
            connection.pragma("cache_size", -_CACHE_KIB)
            connection.pragma("wal_autocheckpoint", _LOG_PAGES)
            connection.pragma("secure_delete", True)  # deleted keys must not stay in free pages
            check_durable(connection, mode)
    except BaseException:
        connection.close()
        raise
    return connection


def check_durable(connection: apsw.Connection, journal_mode: object = None) -> None:
    """Fails unless this live connection writes ahead, syncs every commit, and checks references.

    Raises Fault `not-durable` (a filesystem without shared memory refuses WAL, for example).
    """
    mode = connection.pragma("journal_mode") if journal_mode is None else journal_mode
    synchronous = connection.pragma("synchronous")
    if mode != "wal" or synchronous != _SYNCHRONOUS_FULL or not connection.pragma("foreign_keys"):
        raise Fault(
            "not-durable",
            f"SQLite refuses durable settings (journal {mode}, synchronous {synchronous})",
            blame=Blame.ENVIRONMENT,
            hint="keep the data on a local disk, not on a network filesystem",
        )


def is_plain(path: Path) -> bool:
    """Whether an unencrypted database is at `path`. Raises Fault `cannot-open-database`."""
    try:
        with path.open("rb") as file:
            return file.read(len(_PLAIN)) == _PLAIN
    except FileNotFoundError:
        return False
    except OSError as error:
        raise _fault(
            "cannot-open-database",
            f"the database cannot be read: {error.strerror}",
            "check the data folder and its permissions",
        ) from error


def copy_database(
    path: Path, target: Path, *, key: bytes | None = None, target_key: bytes | None = None
) -> None:
    """A compact copy of the database at `path`, on disk when this returns, with mode 0600.

    `key` opens the one, `target_key` will open the other; None is unencrypted. The version goes
    along. A `target` that exists is replaced. Raises Fault as `open_database` does.
    """
    target.unlink(missing_ok=True)
    make_private_file(target)
    name = f"file:{quote(str(target))}?cipher={_CIPHER}&legacy={_SQLCIPHER_4}"
    name += "&key=" if target_key is None else f"&hexkey={_raw(target_key).encode().hex()}"
    source = open_database(path, key=key)
    try:
        with blaming_the_disk():
            source.execute("VACUUM INTO ?", (name,))
    finally:
        source.close()
    file = os.open(target, os.O_RDWR | os.O_CLOEXEC)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def _raw(key: bytes) -> str:
    """A key that is used as it is, in SQLCipher's words."""
    return f"x'{key.hex()}'"


@contextmanager
def transaction(connection: apsw.Connection) -> Iterator[None]:
    """BEGIN IMMEDIATE … COMMIT around the block; durable when it ends, undone when it raises."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException as error:
        # A full disk can have rolled the transaction back already.
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        if isinstance(error, apsw.IOError):
            _overwrite_undone(connection)
        raise


def _overwrite_undone(connection: apsw.Connection) -> None:
    """A commit that could not be synced is undone, but stands whole in the log: a process that
    opens the database after a kill would find it there. The next commit overwrites it; this one
    says nothing new, and need not reach the disk."""
    with suppress(apsw.Error):
        connection.execute(f"PRAGMA user_version = {database_version(connection):d}")


def settle_log(connection: apsw.Connection) -> None:
    """Puts what an earlier process left in the write-ahead log into the database, and empties it.

    That process may have ended after an fsync that failed: then pages of the log are marked clean
    in memory, not on disk, and a commit behind them would be lost with them when the power fails.
    Written to another place and synced there, all that was read is on disk. Done once, by the
    owner of the database, before it acknowledges anything. Raises Fault as `blaming_the_disk`.
    """
    with blaming_the_disk():
        connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)


# --- migrations


@dataclass(frozen=True, slots=True)
class Migration:
    """One step of the schema; `number` is the `user_version` that the database has after it."""

    number: int
    name: str
    sql: str


def load_migrations(folder: Traversable | Path | str) -> list[Migration]:
    """The files `NNNN_name.sql` of a folder (or package name), numbered 1, 2, 3 without a gap."""
    source = files(folder) if isinstance(folder, str) else folder
    found = []
    for entry in source.iterdir():
        match = _MIGRATION.fullmatch(entry.name)
        if match is not None:
            found.append(Migration(int(match[1]), entry.name, entry.read_text("utf-8")))
    found.sort(key=lambda migration: migration.number)
    if [migration.number for migration in found] != list(range(1, len(found) + 1)):
        raise ValueError(f"migrations must count 1, 2, 3: {[m.name for m in found]}")
    return found


def migrate(connection: apsw.Connection, migrations: Traversable | Path | str) -> None:
    """Bring the database up to the newest migration, each in a transaction of its own.

    `migrations` is what `load_migrations` takes. Raises Fault `database-newer` (INCOMPATIBLE
    would blame the peer's version; here the installed program is too old for its own files).
    """
    steps = load_migrations(migrations)
    with blaming_the_disk():
        version = database_version(connection)
        if version > len(steps):
            raise Fault(
                "database-newer",
                f"the database has version {version}; this program knows versions to {len(steps)}",
                blame=Blame.ENVIRONMENT,
                hint="upgrade this program; an older one cannot read the newer data",
            )
        for step in steps[version:]:
            with transaction(connection):
                for _ in connection.execute(step.sql):
                    pass  # a statement that answers rows waits for its reader, and so does the rest
                connection.execute(f"PRAGMA user_version = {step.number:d}")


def database_version(connection: apsw.Connection) -> int:
    """The number of the last migration that ran here."""
    return int(str(connection.pragma("user_version")))


# --- failures of the machine


@contextmanager
def blaming_the_disk(*, keyed: bool = False) -> Iterator[None]:
    """Turns what the machine does to SQLite into Faults; what our own SQL does wrong stays a bug.

    Codes: `disk-full`, `disk-error`, `disk-read-only`, `database-busy`, `cannot-open-database`,
    `database-damaged`; `wrong-database-key` when `keyed`, since SQLite cannot tell these apart.
    """
    try:
        yield
    except apsw.NotADBError as error:
        if keyed:
            raise Fault(
                "wrong-database-key",
                "the database does not open with this key",
                blame=Blame.CALLER,
                hint="check the passphrase",
            ) from error
        raise _fault(
            "database-damaged",
            "the database is damaged, or encrypted and no key was given",
            "give the passphrase if it has one; else restore a backup",
        ) from error
    except apsw.CorruptError as error:
        raise _fault("database-damaged", "the database is damaged", "restore a backup") from error
    except apsw.FullError as error:
        raise _fault("disk-full", "the disk is full", "free some space and try again") from error
    except apsw.ReadOnlyError as error:
        raise _fault(
            "disk-read-only", "the database cannot be written", "check the folder's permissions"
        ) from error
    except (apsw.BusyError, apsw.LockedError) as error:
        raise _fault(
            "database-busy", "another process holds the database", "end the other process"
        ) from error
    except apsw.CantOpenError as error:
        raise _fault(
            "cannot-open-database", "the database cannot be opened", "check the data folder"
        ) from error
    except apsw.IOError as error:
        raise _fault("disk-error", "the disk reported an error", "check the disk") from error


def _fault(code: str, message: str, hint: str) -> Fault:
    return Fault(code, message, blame=Blame.ENVIRONMENT, hint=hint)
