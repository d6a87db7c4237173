"""Who may use a home: its owner, and nobody else."""

from __future__ import annotations

import logging
import os
import pwd
import stat
from pathlib import Path
from typing import Final

from node.paths import BEFORE_UPGRADE, CONTROL_SOCKET, DATABASE, DATABASE_KEY
from schemas.errors import Blame, Fault
from storage import files
from storage.lock import LOCK_FILE

PRIVATE: Final = (
    DATABASE,
    f"{DATABASE}-wal",
    f"{DATABASE}-shm",
    DATABASE_KEY,
    BEFORE_UPGRADE,
    CONTROL_SOCKET,
)

log = logging.getLogger(__name__)


def check_owner(home: Path) -> bool:
    """Whether there is such a folder. Raises Fault `not-your-home`, `cannot-use-folder`.

    Not even root uses somebody's home: files that root leaves there lock its owner out.
    """
    try:
        if not stat.S_ISDIR(home.stat().st_mode):
            return False
        _check_owner(home)
        for path in _files(home):
            _check_owner(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise _unusable(home, f"cannot be entered: {error.strerror}", "chmod 700") from error
    return True


def check_usable(home: Path) -> bool:
    """As `check_owner`, of a home that is about to be opened. Raises Fault `disk-read-only`, and
    `home-open-to-others` when others may put files of theirs in its place, too."""
    if not check_owner(home):
        return False
    if os.statvfs(home).f_flag & os.ST_RDONLY:
        raise Fault(
            "disk-read-only",
            f"the home {home} is on a disk that is mounted read-only",
            blame=Blame.ENVIRONMENT,
            hint="mount it for writing; a disk that became so by itself is probably failing",
        )
    _check_access(home, os.R_OK | os.W_OK | os.X_OK, "chmod 700")
    for path in _files(home):
        _check_access(path, os.R_OK | os.W_OK, "chmod 600")
    mode = stat.S_IMODE(home.stat().st_mode)
    if mode & stat.S_IWOTH:
        raise Fault(
            "home-open-to-others",
            f"every user of this machine may write into the home {home} (mode {mode:04o})",
            blame=Blame.ENVIRONMENT,
            hint=f"chmod 700 {home}, or choose another folder",
        )
    if mode & stat.S_IWGRP:
        log.warning("the group of %s may write into it (mode %04o): chmod 700", home, mode)
    return True


def too_open(home: Path) -> list[Path]:
    """Files of the home that others than its owner may read or write."""
    return files.too_open(_files(home))


def close_to_others(home: Path) -> None:
    """Makes the home's files private, and tells which were not; the caller holds the lock."""
    files.close_to_others(_files(home))


def _files(home: Path) -> list[Path]:
    return [path for name in (*PRIVATE, LOCK_FILE) if (path := home / name).exists()]


def _check_owner(path: Path) -> None:
    owner = path.stat().st_uid
    if owner not in (os.geteuid(), 0):
        raise _not_yours(path, owner)


def _check_access(path: Path, access: int, command: str) -> None:
    if os.access(path, access):
        return
    owner = path.stat().st_uid
    if owner != os.geteuid():
        raise _not_yours(path, owner)
    raise _unusable(path, "may not be read and written by you", command)


def _not_yours(path: Path, owner: int) -> Fault:
    theirs, ours = _name(owner), _name(os.geteuid())
    return Fault(
        "not-your-home",
        f"{path} belongs to {theirs}, and you are {ours}",
        blame=Blame.ENVIRONMENT,
        hint=f"run this as {theirs}, or choose another home with --home;"
        f" to hand it over: chown -R {ours} to the whole home",
    )


def _unusable(path: Path, what: str, command: str) -> Fault:
    return Fault(
        "cannot-use-folder",
        f"{path} {what}",
        blame=Blame.ENVIRONMENT,
        hint=f"{command} {path}, or choose another home with --home",
    )


def _name(user: int) -> str:
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return f"user {user}"
