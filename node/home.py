"""A home: the folder that is one node's whole state, and where things are in it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import apsw
import platformdirs

from node.engine.engine import Engine
from schemas.errors import Blame, Fault, Refused
from schemas.limits import DISPLAY_NAME
from storage.files import make_private_folder
from storage.lock import LOCK_FILE, FolderLock
from storage.sqlite import migrate, open_database

APP_NAME: Final = "quicnprotochat"
MIGRATIONS: Final = "node.store.migrations"


@dataclass(frozen=True, slots=True)
class Home:
    """The paths in one home folder; nothing is touched by making one."""

    folder: Path

    @property
    def lock(self) -> Path:
        """Held by the process that runs this node."""
        return self.folder / LOCK_FILE

    @property
    def database(self) -> Path:
        return self.folder / "node.db"

    @property
    def control_socket(self) -> Path:
        """Bind it relative to its folder: a Unix socket's path holds about 107 bytes."""
        return self.folder / "control.sock"

    @property
    def config(self) -> Path:
        return self.folder / "config.toml"

    @property
    def exists(self) -> bool:
        """Whether `create_home` has been here (an interrupted one may have been)."""
        return self.database.exists()


def default_folder() -> Path:
    """`QUICNPROTOCHAT_HOME`, else the platform's data folder for this program."""
    chosen = os.environ.get("QUICNPROTOCHAT_HOME")
    return Path(chosen) if chosen else Path(platformdirs.user_data_path(APP_NAME))


def create_home(path: Path, name: str) -> None:
    """A new identity and device called `name` in a new home (0700) at `path`.

    Raises Refused `bad-name` or `home-exists`; Fault `already-running`, `cannot-use-folder`, or
    what the disk did.
    """
    if not name.strip() or len(name.encode()) > DISPLAY_NAME or not name.isprintable():
        raise Refused(
            "bad-name",
            f"a name is 1 to {DISPLAY_NAME} bytes of printable text",
            hint="choose another name",
        )
    make_private_folder(path)
    with FolderLock(path), open_home_database(path) as connection:
        Engine.create(connection, name, now=time.time())


@contextmanager
def open_home_database(path: Path) -> Iterator[apsw.Connection]:
    """The home's database, brought up to date; closed at the end. The caller holds the lock.

    Raises Fault `database-newer` and others of `storage.sqlite`.
    """
    connection = open_database(Home(path).database)
    try:
        migrate(connection, MIGRATIONS)
        yield connection
    finally:
        connection.close()


@contextmanager
def open_engine(path: Path) -> Iterator[Engine]:
    """The engine of the home at `path`; for the thread that will own it.

    Raises Fault `no-account` when there is no home, `database-newer`, and others of the disk.
    """
    if not Home(path).exists:
        raise Fault(
            "no-account",
            "there is no account in this home",
            blame=Blame.CALLER,
            hint="make one with `quicnprotochat init --name NAME`",
        )
    with open_home_database(path) as connection:
        yield Engine(connection)
