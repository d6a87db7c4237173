"""Encryption of a home at rest: the key file, and setting, changing, removing the passphrase.

The database has a random key of its own; the key file is that key, sealed with the passphrase. So
a new passphrase rewrites one small file. The database's header says whether it is encrypted: the
rename of a converted database is the one moment at which that changes.
"""

from __future__ import annotations

import os
from pathlib import Path

from identity.sealed_file import DEFAULT_COST, Cost, open_file_untrusted, seal_file
from node.paths import BEFORE_UPGRADE, DATABASE, DATABASE_KEY
from node.permissions import close_to_others
from schemas.errors import Blame, Fault, Refused
from storage.files import replace_file, sync_folder, wipe, write_private_file
from storage.lock import FolderLock
from storage.sqlite import RAW_KEY_LENGTH, copy_database, is_plain

_CONVERTED = f"{DATABASE}.converted"


def is_encrypted(home: Path) -> bool:
    """Whether a passphrase is needed to open this home."""
    return not is_empty(home) and not is_plain(home / DATABASE) and (home / DATABASE_KEY).exists()


def is_empty(home: Path) -> bool:
    """Whether nothing was ever written to the home's database. Raises Fault
    `cannot-open-database`."""
    try:
        return (home / DATABASE).stat().st_size == 0
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError as error:
        raise _cannot_open("the database", error) from error


def database_key(home: Path, passphrase: bytes | None) -> bytes | None:
    """The key (32 B) that the home's database opens with; None when it is not encrypted.

    Raises Refused `passphrase-needed`, `wrong-passphrase`, and others of `open_file_untrusted`.
    """
    database = home / DATABASE
    if is_empty(home) or is_plain(database):
        return None
    try:
        sealed = (home / DATABASE_KEY).read_bytes()
    except FileNotFoundError:
        raise Fault(
            "database-damaged",
            f"the database is damaged, or encrypted and its key file {DATABASE_KEY} is missing",
            blame=Blame.ENVIRONMENT,
            hint="put the key file back, or restore a backup into another home",
        ) from None
    except OSError as error:
        raise _cannot_open("the key file", error) from error
    if passphrase is None:
        raise Refused(
            "passphrase-needed",
            "this home is encrypted, and no passphrase was given",
            hint="answer the prompt in a terminal, or give --passphrase-file FILE"
            " (QUICNPROTOCHAT_PASSPHRASE_FILE)",
        )
    return open_file_untrusted(passphrase, sealed)


def make_key(home: Path, passphrase: bytes, cost: Cost = DEFAULT_COST) -> bytes:
    """A key for a database that has nothing in it yet; one that is there already is kept: its
    database may only be elsewhere. Raises Refused `wrong-passphrase`, Fault `cannot-write-file`."""
    file = home / DATABASE_KEY
    if file.exists():
        return open_file_untrusted(passphrase, file.read_bytes())
    key = os.urandom(RAW_KEY_LENGTH)
    write_private_file(file, seal_file(passphrase, key, cost=cost))
    return key


def check_key_file(home: Path) -> None:
    """Raises Fault `database-missing` when there is a key file, and its database is not there."""
    if (home / DATABASE_KEY).exists() and is_empty(home):
        raise Fault(
            "database-missing",
            f"{DATABASE_KEY} is there, but the database that it opens is not: {home / DATABASE}",
            blame=Blame.ENVIRONMENT,
            hint=f"put {DATABASE} back; or remove the key file, if that home is no more",
        )


def tidy(home: Path) -> None:
    """Removes what a conversion left that was killed; the caller holds the lock."""
    (home / _CONVERTED).unlink(missing_ok=True)
    if is_plain(home / DATABASE):
        (home / DATABASE_KEY).unlink(missing_ok=True)


def change_passphrase(
    home: Path, old: bytes | None, new: bytes | None, *, cost: Cost = DEFAULT_COST
) -> None:
    """Sets (`old` None), changes or removes (`new` None) the passphrase of an idle home.

    Killed at any moment, it leaves a home that opens with the old or with the new one.
    Raises Fault `already-running`, `disk-full` and others of the disk; Refused `not-encrypted`,
    `already-encrypted`, `passphrase-needed`, `wrong-passphrase`.
    """
    with FolderLock(home):
        close_to_others(home)
        tidy(home)
        encrypted = is_encrypted(home)
        if not encrypted and (old is not None or new is None):
            raise Refused(
                "not-encrypted", "this home has no passphrase", hint="see `passphrase set`"
            )
        if encrypted and old is None:
            raise Refused(
                "already-encrypted",
                "this home has a passphrase",
                hint="change it with `passphrase change`",
            )
        key = database_key(home, old)
        if new is None:
            _convert(home, key, None)
            (home / DATABASE_KEY).unlink(missing_ok=True)
            sync_folder(home)
        elif key is None:
            _convert(home, None, make_key(home, new, cost))
        else:
            write_private_file(home / DATABASE_KEY, seal_file(new, key, cost=cost))


def _convert(home: Path, key: bytes | None, target_key: bytes | None) -> None:
    """The same database, encrypted or not, in place of the old one, which is wiped."""
    database, converted = home / DATABASE, home / _CONVERTED
    copy_database(database, converted, key=key, target_key=target_key)
    # Closing the copy's source has put its write-ahead log into it and removed the log; one that
    # stayed would be read as the new database's.
    for suffix in ("-wal", "-shm"):
        left = database.with_name(database.name + suffix)
        if left.exists() and left.stat().st_size:
            raise Fault(
                "database-busy",
                f"the database is in use: {left.name} is there",
                blame=Blame.ENVIRONMENT,
                hint="end the other process",
            )
    old = os.open(database, os.O_RDWR | os.O_CLOEXEC)
    try:
        replace_file(converted, database)
        (home / BEFORE_UPGRADE).unlink(missing_ok=True)
        if key is None:
            wipe(old)
    finally:
        os.close(old)


def _cannot_open(what: str, error: OSError) -> Fault:
    return Fault(
        "cannot-open-database",
        f"{what} cannot be read: {error.strerror}",
        blame=Blame.ENVIRONMENT,
        hint="check the home's permissions",
    )
