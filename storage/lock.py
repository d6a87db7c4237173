"""The exclusive lock on a folder: one process per home or data directory."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from types import TracebackType
from typing import Self

from schemas.errors import Blame, Fault
from storage.files import PRIVATE_FILE, make_private_folder
from storage.ownership import open_owned

LOCK_FILE = "lock"


class FolderLock:
    """Holds `folder` for this process; the kernel lets go when the process ends, however it ends.

    The folder is made (0700) when there is none. As a context manager, or `acquire`/`release`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._file: int | None = None

    @property
    def held(self) -> bool:
        return self._file is not None

    def acquire(self) -> None:
        """Raises Fault `already-running` when another process (or lock) holds the folder."""
        if self._file is not None:
            raise RuntimeError("this lock is held already")
        make_private_folder(self.folder)
        try:
            file = open_owned(self.folder / LOCK_FILE, os.O_RDWR, PRIVATE_FILE)
        except OSError as error:
            raise Fault(
                "cannot-use-folder",
                f"the folder {str(self.folder)!r} cannot be used: {error.strerror}",
                blame=Blame.ENVIRONMENT,
                hint="choose another folder, or mend its permissions",
            ) from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(file, 32, 0).decode("ascii", "replace").strip()
            os.close(file)
            raise Fault(
                "already-running",
                f"another process{f' ({holder})' if holder.isdigit() else ''} uses this folder",
                blame=Blame.ENVIRONMENT,
                hint="end the other process, or choose another folder",
            ) from error
        except OSError:
            os.close(file)
            raise
        os.ftruncate(file, 0)
        os.pwrite(file, f"{os.getpid()}\n".encode(), 0)  # for people; the lock is the kernel's
        self._file = file

    def release(self) -> None:
        """Let go. Idempotent. The file stays: removing it would let two processes in."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()
