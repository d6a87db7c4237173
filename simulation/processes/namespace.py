"""Network namespaces that live as long as a process in them, so that none is ever left behind."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final, Self

_START_S: Final = 5.0
_PROGRAMS: Final = (
    ("ip", "iproute2"),
    ("unshare", "util-linux"),
    ("nsenter", "util-linux"),
    ("setpriv", "util-linux"),
)


def reason_against_namespaces(programs: Iterable[tuple[str, str]] = ()) -> str:
    """Why no namespace can be made here, and what to do; empty where it can.

    `programs`: what else is needed, each with the package that has it.
    """
    if not sys.platform.startswith("linux"):
        return "network namespaces are Linux's: run it on Linux"
    if os.geteuid() != 0:
        return "network namespaces need root here: run it with sudo"
    for program, package in (*_PROGRAMS, *programs):
        if shutil.which(program) is None:
            return f"the program `{program}` is missing: install {package}"
    if subprocess.run(["unshare", "-n", "true"], capture_output=True).returncode:
        return "this container may not make network namespaces: give it CAP_SYS_ADMIN"
    return ""


class Namespace:
    """A network namespace, empty but for loopback, which is up.

    It ends with `close`, or when this process ends, however that comes; so does whatever was
    started under `enter`.
    """

    def __init__(self) -> None:
        """Raises OSError, TimeoutError, subprocess.CalledProcessError."""
        # The holder ends when our end of its standard input does.
        self._holder = subprocess.Popen(
            ["unshare", "-n", "cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
        )
        self.pid = self._holder.pid
        self._wait()
        self.ip("link set lo up")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def enter(self) -> tuple[str, ...]:
        """Before a command: it runs here, and is killed when the thread that started it ends."""
        return ("setpriv", "--pdeathsig", "KILL", "nsenter", "-t", str(self.pid), "-n")

    def run(self, *words: str, text: str | None = None) -> str:
        """What the command prints; `text` is its input. Raises subprocess.CalledProcessError."""
        done = subprocess.run(
            [*self.enter, *words], input=text, text=True, check=True, capture_output=True
        )
        return done.stdout

    def ip(self, *lines: str) -> None:
        """`ip` with each of these lines. Raises subprocess.CalledProcessError."""
        self.run("ip", "-batch", "-", text="".join(f"{line}\n" for line in lines))

    def close(self) -> None:
        self._holder.communicate()

    def _wait(self) -> None:
        """Until the holder has a network namespace other than ours. Raises TimeoutError."""
        ours = Path("/proc/self/ns/net").readlink()
        deadline = time.monotonic() + _START_S
        while Path(f"/proc/{self.pid}/ns/net").readlink() == ours:
            if time.monotonic() > deadline:
                raise TimeoutError("no namespace was made")
            time.sleep(0.001)
