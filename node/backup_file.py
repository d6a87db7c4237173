"""Backups as files: sealed with a passphrase (QPCE)."""

from __future__ import annotations

from pathlib import Path

from identity.sealed_file import CONTENT_LIMIT, seal_file
from schemas.errors import Blame, Fault, Refused
from storage.files import write_private_file

_READ_LIMIT = CONTENT_LIMIT + 1024  # what is longer is no sealed file


def write_backup(file: Path, content: bytes, passphrase: bytes) -> int:
    """Seals into a new file; how many bytes it has. Raises Refused `file-exists`, `too-large`;
    Fault `cannot-write-file`."""
    check_free(file)
    sealed = seal_file(passphrase, content)
    write_private_file(file, sealed)
    return len(sealed)


def check_free(file: Path) -> None:
    """Raises Refused `file-exists`; Fault `cannot-write-file` when there is no such folder."""
    if file.exists():
        raise Refused(
            "file-exists", f"there is a file {str(file)!r}", hint="name a file that is not there"
        )
    if not file.parent.is_dir():
        raise Fault(
            "cannot-write-file",
            f"there is no folder {str(file.parent)!r}",
            blame=Blame.CALLER,
            hint="check the path",
        )


def read_backup(file: Path) -> bytes:
    """What the file holds, for `open_file_untrusted`. Raises Fault `cannot-read-file`."""
    try:
        with file.open("rb") as opened:
            return opened.read(_READ_LIMIT)
    except OSError as error:
        raise Fault(
            "cannot-read-file",
            f"the file {str(file)!r} cannot be read: {error.strerror}",
            blame=Blame.CALLER,
            hint="check the path and its permissions",
        ) from error
