"""Passphrases: from a file or a prompt, never from the command line."""

from __future__ import annotations

import getpass
import sys
from pathlib import Path

from schemas.errors import Blame, Fault, Refused

_FILE_LIMIT = 4096


class Secrets:
    """What opens the home: read from `file` when one was named, else asked for once."""

    def __init__(self, file: Path | None) -> None:
        self.file = file
        self._home: bytes | None = None

    def home(self) -> bytes:
        """Raises as `obtain`."""
        if self._home is None:
            self._home = obtain(self.file, "Passphrase of this home")
        return self._home

    def new_home(self, *, wanted: bool = False) -> bytes | None:
        """For a home to be made; None when no file was named, unless it is `wanted`.

        A prompt asks twice. Raises as `obtain`.
        """
        if self.file is None and not wanted:
            return None
        self._home = obtain(self.file, "New passphrase for this home", twice=True)
        return self._home


def obtain(file: Path | None, what: str, *, twice: bool = False) -> bytes:
    """A passphrase from `file`, else asked for without echo.

    Raises Refused `passphrase-needed` without a terminal, `bad-passphrase`; Fault
    `cannot-read-file`.
    """
    from identity.sealed_file import normalised

    if file is not None:
        return normalised(_read(file))
    if sys.stdin is None or not sys.stdin.isatty():
        raise Refused(
            "passphrase-needed",
            f"{what}: there is no terminal to ask at, and no file was given",
            hint="give --passphrase-file FILE (QUICNPROTOCHAT_PASSPHRASE_FILE)",
        )
    first = getpass.getpass(f"{what}: ", sys.stderr)
    if twice and getpass.getpass("Once more: ", sys.stderr) != first:
        raise Refused("bad-passphrase", "the two are not the same", hint="try again")
    return normalised(first)


def _read(file: Path) -> str:
    """The first line and all others, without the line break at the end."""
    try:
        with file.expanduser().open("rb") as opened:
            text = opened.read(_FILE_LIMIT).decode()
    except OSError as error:
        raise Fault(
            "cannot-read-file",
            f"the passphrase file {str(file)!r} cannot be read: {error.strerror}",
            blame=Blame.CALLER,
            hint="check the path and its permissions",
        ) from None
    except UnicodeDecodeError:
        raise Refused("bad-passphrase", "the passphrase file is not UTF-8 text") from None
    return text.removesuffix("\n").removesuffix("\r")
