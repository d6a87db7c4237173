"""Passphrases: from a file or a prompt, never from the command line."""

from __future__ import annotations

import getpass
import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from node.cli.output import clean
from schemas.errors import Blame, Fault, Refused

_FILE_LIMIT = 4096
_SHORT = 8  # characters

Tell = Callable[[str], None]


class Secrets:
    """What opens the home: read from `file` when one was named, else asked for once.

    `warn` tells the user what is unwise.
    """

    def __init__(self, file: Path | None, warn: Tell) -> None:
        self.file = file
        self._warn = warn
        self._home: bytes | None = None

    def home(self) -> bytes:
        """Raises as `obtain`."""
        if self._home is None:
            self._home = self.obtain(self.file, "Passphrase of this home")
        return self._home

    def new_home(self, *, wanted: bool = False) -> bytes | None:
        """For a home to be made; None when no file was named, unless it is `wanted`.

        A prompt asks twice. Raises as `obtain`.
        """
        if self.file is None and not wanted:
            return None
        self._home = self.obtain(self.file, "New passphrase for this home", new=True)
        return self._home

    def obtain(
        self,
        file: Path | None,
        what: str,
        *,
        new: bool = False,
        guesser: str = "whoever has the file that it protects",
    ) -> bytes:
        """A passphrase from `file`, else asked for without echo; a `new` one twice, until both are
        the same.

        Raises Refused `passphrase-needed` without a terminal, `bad-passphrase`; Fault
        `cannot-read-file`.
        """
        from identity.sealed_file import normalised

        text = self._ask(what, twice=new) if file is None else _read(file, self._warn)
        if new and len(text) < _SHORT:
            self._warn(
                f"warning: this has fewer than {_SHORT} characters: {guesser} can guess it. "
                "Several words are better."
            )
        return normalised(text)

    def _ask(self, what: str, *, twice: bool) -> str:
        if sys.stdin is None or not sys.stdin.isatty():
            raise Refused(
                "passphrase-needed",
                f"{what}: there is no terminal to ask at, and no file was given",
                hint="give --passphrase-file FILE (QUICNPROTOCHAT_PASSPHRASE_FILE)",
            )
        while True:
            first = getpass.getpass(f"{what}: ", sys.stderr)
            if not twice or getpass.getpass("Once more: ", sys.stderr) == first:
                return first
            self._warn("The two are not the same: both again.")


def _read(file: Path, warn: Tell) -> str:
    """The first line and all others, without the line break at the end."""
    try:
        with file.expanduser().open("rb") as opened:
            if _others_can_read(opened):
                warn(
                    f"warning: other users of this machine can read the file "
                    f"{clean(file)}: chmod 600 it"
                )
            text = opened.read(_FILE_LIMIT).decode()
    except OSError as error:
        raise Fault(
            "cannot-read-file",
            f"the file {str(file)!r} cannot be read: {error.strerror}",
            blame=Blame.CALLER,
            hint="check the path and its permissions",
        ) from None
    except UnicodeDecodeError:
        raise Refused("bad-passphrase", f"{str(file)!r} is not UTF-8 text") from None
    return text.removesuffix("\n").removesuffix("\r")


def _others_can_read(opened: BinaryIO) -> bool:
    """A pipe is nobody else's, whatever its mode says."""
    mode = os.fstat(opened.fileno()).st_mode
    return os.name == "posix" and stat.S_ISREG(mode) and bool(mode & (stat.S_IRGRP | stat.S_IROTH))
