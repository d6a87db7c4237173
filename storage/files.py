"""Folders and files that only their owner may read."""

from __future__ import annotations

import errno
import logging
import os
import stat
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from schemas.errors import Blame, Fault
from storage.ownership import open_owned

PRIVATE_FOLDER = 0o700
PRIVATE_FILE = 0o600
_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_WIPE_STEP = 1 << 20

log = logging.getLogger(__name__)


def make_private_folder(folder: Path) -> None:
    """Make `folder` (and its parents) with mode 0700; an empty one is tightened to that.

    A folder in use keeps its mode: its files are private by themselves, and other programs may
    live there. Raises Fault `cannot-use-folder`.
    """
    try:
        folder.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
        if not any(folder.iterdir()):
            folder.chmod(PRIVATE_FOLDER)
    except OSError as error:
        raise Fault(
            "cannot-use-folder",
            f"the folder {str(folder)!r} cannot be used: {error.strerror}",
            blame=Blame.ENVIRONMENT,
            hint="choose another folder, or mend its permissions",
        ) from error


def make_private_file(path: Path) -> None:
    """Make an empty file with mode 0600 unless there is one. Raises Fault `cannot-write-file`."""
    try:
        os.close(open_owned(path, os.O_RDWR, PRIVATE_FILE))
    except OSError as error:
        raise cannot_write(path, error) from error


def make_private(path: Path) -> bool:
    """Takes what access others have to a file of ours; False where the filesystem keeps it."""
    with suppress(OSError):
        path.chmod(path.stat().st_mode & PRIVATE_FOLDER)
    return not path.stat().st_mode & ~PRIVATE_FOLDER & 0o777


def too_open(files: Iterable[Path]) -> list[Path]:
    """Those of `files` that are there and that others than their owner may read or write."""
    return [path for path in files if path.exists() and path.stat().st_mode & _OTHERS]


def close_to_others(files: Iterable[Path]) -> None:
    """Makes `files` private, where they are there, and tells which were not."""
    for path in too_open(files):
        mode = stat.S_IMODE(path.stat().st_mode)
        if make_private(path):
            log.error("others could use %s (mode %04o); now they cannot", path, mode)
        else:
            log.error("others can use %s (mode %04o), and that cannot be changed here", path, mode)


def write_private_file(path: Path, data: bytes) -> None:
    """Put `data` at `path` with mode 0600, wholly or not at all, and on disk when this returns.

    Raises Fault `cannot-write-file`.
    """
    with PrivateFile(path) as file:
        file.write(data)


class PrivateFile:
    """A file of mode 0600 that is written piece by piece: at `path`, whole and on disk, when the
    block ends well; else nothing is there. Raises Fault `cannot-write-file`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._part = path.with_name(f".{path.name}.part")

    def __enter__(self) -> Self:
        try:
            self._part.unlink(missing_ok=True)
            part = open_owned(self._part, os.O_WRONLY | os.O_EXCL, PRIVATE_FILE)
            self._file = os.fdopen(part, "wb")
        except OSError as error:
            raise cannot_write(self._path, error) from error
        return self

    def write(self, data: bytes) -> None:
        try:
            self._file.write(data)
        except OSError as error:
            raise cannot_write(self._path, error) from error

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            with self._file as file:
                if error is None:
                    file.flush()
                    os.fsync(file.fileno())
            if error is None:
                replace_file(self._part, self._path)
        except OSError as failure:
            error = failure
            raise cannot_write(self._path, failure) from failure
        finally:
            if error is not None:
                with suppress(OSError):
                    self._part.unlink()


def replace_file(new: Path, path: Path) -> None:
    """`new` becomes `path`, and the name, too, is on disk when this returns. Raises OSError.

    A device, pipe or folder is not replaced: to a rename `/dev/null` is a name like any other.
    """
    if path.exists() and not path.is_file():
        raise FileExistsError(errno.EEXIST, "not a regular file", str(path))
    new.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Names made, changed and removed in `folder` survive a power loss. Raises OSError."""
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def wipe(file: int) -> None:
    """Write zeros over an open file; what a filesystem or an SSD copied stays. Raises OSError."""
    left, offset = os.fstat(file).st_size, 0
    while left > 0:
        written = os.pwrite(file, bytes(min(left, _WIPE_STEP)), offset)
        left, offset = left - written, offset + written
    os.fsync(file)


def cannot_write(path: Path, error: OSError) -> Fault:
    return Fault(
        "cannot-write-file",
        f"the file {str(path)!r} cannot be written: {error.strerror}",
        blame=Blame.ENVIRONMENT,
        hint="check the disk and the folder's permissions",
    )
