"""Whether an open database still is the file that its path names."""

from __future__ import annotations

from pathlib import Path

from schemas.errors import Blame, Fault


class FilesInPlace:
    """The database at `path`, which is open, and its write-ahead log.

    SQLite goes on writing to files that were deleted, moved or replaced, and syncs them; what it
    writes then is gone when the process ends.
    """

    def __init__(self, path: Path) -> None:
        self._files = [(name, _identity(name)) for name in (path, Path(f"{path}-wal"))]

    def check(self) -> None:
        """Costs two calls of stat. Raises Fault `database-replaced`."""
        for name, identity in self._files:
            if _identity(name) != identity:
                raise Fault(
                    "database-replaced",
                    f"{name.name} was deleted, moved or replaced while it was in use",
                    blame=Blame.ENVIRONMENT,
                    hint="put it back, or stop the program and restore a backup",
                )


def _identity(name: Path) -> tuple[int, int] | None:
    try:
        status = name.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
