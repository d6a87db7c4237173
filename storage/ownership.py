"""What root makes in a folder of somebody else: theirs, and never behind a link of theirs.

An operator's commands run as root on the folder of a service that has a user of its own.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

log = logging.getLogger(__name__)


def open_owned(path: Path, flags: int, mode: int) -> int:
    """Open `path` as os.open does, made if it is not there. Raises OSError."""
    flags |= os.O_CREAT | os.O_CLOEXEC
    owner = _another(path.parent)
    if owner is None:
        return os.open(path, flags, mode)
    flags |= os.O_NOFOLLOW
    try:
        file = os.open(path, flags | os.O_EXCL, mode)
    except FileExistsError:
        if flags & os.O_EXCL:
            raise
        return os.open(path, flags & ~os.O_CREAT)
    try:
        os.fchown(file, owner.st_uid, owner.st_gid)
    except OSError as error:  # a filesystem, or a container, that knows no such user
        log.warning("%s stays root's: %s", path, error.strerror)
    return file


def _another(folder: Path) -> os.stat_result | None:
    """Of the folder, when we are root and it is not."""
    if os.geteuid() != 0:
        return None
    status = folder.stat()
    return status if status.st_uid != 0 else None
