"""Making and opening a home: the folder that is one node's whole state."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw

from node.encryption import (
    check_key_file,
    database_key,
    is_empty,
    is_encrypted,
    make_key,
    tidy,
)
from node.engine.account import checked_name
from node.engine.engine import Engine
from node.paths import BEFORE_UPGRADE, DATABASE
from node.permissions import check_usable, close_to_others
from node.store.damage import ACCOUNT, mend
from node.store.database import MIGRATIONS, Database
from schemas.errors import Blame, Fault
from storage.files import make_private_folder
from storage.lock import FolderLock
from storage.sqlite import (
    copy_database,
    database_version,
    load_migrations,
    migrate,
    open_database,
    settle_log,
)

log = logging.getLogger(__name__)


def create_home(path: Path, name: str, passphrase: bytes | None = None) -> None:
    """A new identity and device called `name` in a new home (0700) at `path`.

    With a passphrase its database is encrypted. Raises Refused `bad-name` or `home-exists`;
    Fault `already-running`, those of `check_usable`, or what the disk did.
    """
    checked_name(name)  # before there is a folder
    with new_home_database(path, passphrase) as connection:
        Engine.create(connection, name, now=time.time())


@contextmanager
def new_home_database(path: Path, passphrase: bytes | None) -> Iterator[apsw.Connection]:
    """The database of a home that has no account yet, locked. Raises as `create_home`."""
    make_private_folder(path)
    check_usable(path)
    with FolderLock(path):
        close_to_others(path)
        if is_encrypted(path):  # made before, perhaps only in part; its passphrase is needed
            key = database_key(path, passphrase)
        elif not is_empty(path):
            key = None
        elif passphrase is None:
            check_key_file(path)
            key = None
        else:
            key = make_key(path, passphrase)
        with _opened(path, key) as connection:
            yield connection


def require_account(path: Path) -> None:
    """Raises Fault `no-account` or `database-missing` when there is no home at `path`, and as
    `check_usable`; makes nothing."""
    if check_usable(path) and (path / DATABASE).exists():
        return
    check_key_file(path)
    raise Fault(
        "no-account",
        "there is no account in this home",
        blame=Blame.CALLER,
        hint="make one with `quicnprotochat init --name NAME`, or check --home",
    )


@contextmanager
def open_home_database(path: Path, passphrase: bytes | None = None) -> Iterator[apsw.Connection]:
    """The home's database, brought up to date; closed at the end. The caller holds the lock.

    Before an upgrade a copy is put beside it, until an engine has opened the result.
    Raises Refused `passphrase-needed` and `wrong-passphrase`; Fault `database-newer` and others
    of `storage.sqlite`.
    """
    close_to_others(path)
    tidy(path)
    key = database_key(path, passphrase)
    if key is None and passphrase is not None:
        log.warning("this home is not encrypted: the passphrase is not used")
    with _opened(path, key) as connection:
        yield connection


@contextmanager
def _opened(path: Path, key: bytes | None) -> Iterator[apsw.Connection]:
    database = path / DATABASE
    try:
        connection = open_database(database, key=key)
    except Fault as fault:
        if fault.code != "wrong-database-key":
            raise
        # The key file opened, so this is the key.
        raise Fault(
            "database-damaged",
            "the beginning of the database is damaged",
            blame=Blame.ENVIRONMENT,
            hint="restore a backup into another home",
        ) from fault
    try:
        settle_log(connection)
        version = database_version(connection)
        if 0 < version < len(load_migrations(MIGRATIONS)):
            copy_database(database, path / BEFORE_UPGRADE, key=key, target_key=key)
        migrate(connection, MIGRATIONS)
        yield connection
    finally:
        connection.close()


@contextmanager
def open_engine(path: Path, passphrase: bytes | None = None) -> Iterator[Engine]:
    """The engine of the home at `path`; for the thread that will own it.

    Raises Fault `no-account` when there is no home, and as `open_home_database`.
    """
    require_account(path)
    with open_home_database(path, passphrase) as connection:
        if found := mend(Database(connection), ACCOUNT):
            log.error("the database was damaged: %d settings dropped", found.total())
        engine = Engine(connection)
        # From here on the copy would be harmful: going back to it uses message keys twice.
        (path / BEFORE_UPGRADE).unlink(missing_ok=True)
        yield engine


def restore_home(path: Path, content: bytes, passphrase: bytes | None = None) -> None:
    """The person of a backup (what `TakeBackup` answered) in a new home, on a new device.

    Raises Refused `home-exists`, `bad-backup`, `backup-newer`, and as `create_home`.
    """
    with new_home_database(path, passphrase) as connection:
        Engine.restore(connection, content, now=time.time())
