"""Making and opening a home: the folder that is one node's whole state."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw

from node.engine.account import checked_name
from node.engine.engine import Engine
from node.paths import DATABASE
from node.store.database import MIGRATIONS
from schemas.errors import Blame, Fault
from storage.files import make_private_folder
from storage.lock import FolderLock
from storage.sqlite import migrate, open_database


def create_home(path: Path, name: str) -> None:
    """A new identity and device called `name` in a new home (0700) at `path`.

    Raises Refused `bad-name` or `home-exists`; Fault `already-running`, `cannot-use-folder`, or
    what the disk did.
    """
    checked_name(name)  # before there is a folder
    make_private_folder(path)
    with FolderLock(path), open_home_database(path) as connection:
        Engine.create(connection, name, now=time.time())


@contextmanager
def open_home_database(path: Path) -> Iterator[apsw.Connection]:
    """The home's database, brought up to date; closed at the end. The caller holds the lock.

    Raises Fault `database-newer` and others of `storage.sqlite`.
    """
    connection = open_database(path / DATABASE)
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
    if not (path / DATABASE).exists():
        raise Fault(
            "no-account",
            "there is no account in this home",
            blame=Blame.CALLER,
            hint="make one with `quicnprotochat init --name NAME`",
        )
    with open_home_database(path) as connection:
        yield Engine(connection)
