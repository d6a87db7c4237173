"""Copies of the database of a running relay, and what makes a restored one safe.

A copy is older than the world: numbers that it would give out again were given out, and key
packages that it holds were consumed. So a copy carries a mark, and whoever opens it as a live
database first jumps ahead with all sequence numbers and drops the key packages that are for one
use; their owners bring new ones.
"""

from __future__ import annotations

import logging
import shutil
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import apsw

from schemas.errors import Blame, Fault
from storage.files import cannot_write, make_private_file, replace_file
from storage.sqlite import (
    blaming_the_disk,
    copy_database,
    database_version,
    open_database,
    transaction,
)

log = logging.getLogger(__name__)

SEQUENCE_JUMP = 2**32  # more than a mailbox takes in between two backups; 2**53 holds 2**21 jumps
_TABLES = (
    "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite%' ORDER BY name"
)


@dataclass(frozen=True, slots=True)
class Copied:
    """A whole backup: its size in bytes, and the rows of each table."""

    file: Path
    bytes: int
    rows: dict[str, int]


def back_up(database: Path, to: Path, *, key: bytes | None = None) -> Copied:
    """Copy the database, in use or not, to the new file `to`; checked and on disk on return.

    The relay goes on meanwhile: the copy is of one moment. An encrypted database gives an
    encrypted copy, with the same key. Raises Fault `no-file`, `file-exists`, `backup-damaged`,
    `cannot-write-file`, and what the disk causes.
    """
    _require(database, exists=True)
    _require(to, exists=False)
    part = to.with_name(f".{to.name}.part")
    try:
        copy_database(database, part, key=key, target_key=key)
        with closing(open_database(part, key=key)) as copy, blaming_the_disk(), transaction(copy):
            mark_as_backup(copy)
        return _finish(part, to, key)
    finally:
        part.unlink(missing_ok=True)


def restore(file: Path, database: Path, *, key: bytes | None = None) -> Copied:
    """Make the backup `file` the database of a relay that is not running and has none.

    Its folder must be locked by us. Raises as `back_up` does; then nothing was changed.
    """
    _require(file, exists=True)
    _require(database, exists=False)
    part = database.with_name(f".{database.name}.part")
    try:
        try:
            part.unlink(missing_ok=True)
            make_private_file(part)
            shutil.copyfile(file, part)
        except OSError as error:
            raise cannot_write(database, error) from error
        return _finish(part, database, key)
    except Fault as fault:
        if fault.code in ("backup-damaged", "database-damaged"):
            raise _damaged(
                file, "take an older one; it must be a file that `backup` made"
            ) from fault
        raise
    finally:
        part.unlink(missing_ok=True)


def _finish(part: Path, to: Path, key: bytes | None) -> Copied:
    """Give a copy its name once it has proven to be whole."""
    with (
        closing(open_database(part, key=key)) as copy,
        blaming_the_disk(keyed=key is not None),
    ):
        verdict = copy.execute("PRAGMA integrity_check").get
        if verdict != "ok" or database_version(copy) < 2 or not _is_backup(copy):
            raise _damaged(to, "check the disk, and try again")
        rows = {
            str(table): int(copy.execute(f"SELECT count(*) FROM {table}").get)  # noqa: S608
            for (table,) in copy.execute(_TABLES).fetchall()
        }
        copy.pragma("journal_mode", "delete")  # one file, without companions
    try:
        replace_file(part, to)
        return Copied(to, to.stat().st_size, rows)
    except OSError as error:
        raise cannot_write(to, error) from error


def _damaged(file: Path, hint: str) -> Fault:
    return Fault(
        "backup-damaged",
        f"{str(file)!r} is not a whole backup of a relay",
        blame=Blame.ENVIRONMENT,
        hint=hint,
    )


def _require(file: Path, *, exists: bool) -> None:
    if file.exists() == exists:
        return
    if exists:
        raise Fault("no-file", f"there is no {str(file)!r}", blame=Blame.CALLER, hint="check it")
    raise Fault(
        "file-exists",
        f"{str(file)!r} exists and is not replaced",
        blame=Blame.CALLER,
        hint="choose another name, or move that file away",
    )


def mark_as_backup(connection: apsw.Connection) -> None:
    """Whoever opens it as a live database makes it safe first: see `revive`."""
    connection.execute("INSERT OR REPLACE INTO meta (name, value) VALUES ('is_backup', 1)")


def revive(connection: apsw.Connection) -> None:
    """If this database is a backup, make it one that can be live; once, in one transaction."""
    if not _is_backup(connection):
        return
    with transaction(connection):
        connection.execute("UPDATE mailboxes SET next_seq = next_seq + ?", (SEQUENCE_JUMP,))
        connection.execute(
            "INSERT INTO meta (name, value) VALUES ('first_seq', 1 + ?1)"
            " ON CONFLICT (name) DO UPDATE SET value = value + ?1",
            (SEQUENCE_JUMP,),
        )
        connection.execute("DELETE FROM key_packages WHERE last_resort = 0")
        connection.execute("DELETE FROM kp_requests")
        connection.execute("DELETE FROM sessions")  # some may have been ended since
        connection.execute("DELETE FROM meta WHERE name = 'is_backup'")
    log.warning("this database is a restored backup: sequence numbers jumped ahead")


def _is_backup(connection: apsw.Connection) -> bool:
    return bool(connection.execute("SELECT count(*) FROM meta WHERE name = 'is_backup'").get)
