"""A relay as a process of its own, for tests of this folder and others."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from schemas.addresses import RelayAddress

ROOT = Path(__file__).parents[2]
DEADLINE_S = 30.0


def relay_command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "relay.main", *arguments]


def clean_environment(**settings: str) -> dict[str, str]:
    """Ours without the settings of whoever runs the tests."""
    ours = {k: v for k, v in os.environ.items() if not k.startswith("QUICNPROTOCHAT_")}
    return ours | {"PYTHONPATH": str(ROOT)} | settings


@dataclass(frozen=True)
class Ended:
    """How a process ended."""

    code: int
    out: str
    err: str

    @property
    def error(self) -> dict[str, str]:
        """The one JSON object that a failed command prints under --json."""
        parsed: dict[str, dict[str, str]] = json.loads(self.out)
        return parsed["error"]


def run_relay(*arguments: str, **settings: str) -> Ended:
    """Run a command that ends by itself."""
    done = subprocess.run(
        relay_command(*arguments),
        capture_output=True,
        text=True,
        env=clean_environment(**settings),
        timeout=DEADLINE_S,
    )
    return Ended(done.returncode, done.stdout, done.stderr)


class RelayProcess:
    """`quicnprotochat-relay run --json` on a free loopback port; ready when entered.

    `ready` is its first line. Killed on the way out unless it has ended. `inside` is a command
    that runs the one given behind it, in its own process. One that `waits` is entered before it
    is ready: see `read_ready`.
    """

    def __init__(
        self,
        folder: Path,
        *arguments: str,
        listen: str = "127.0.0.1:0",
        inside: Sequence[str] = (),
        waits: bool = False,
    ) -> None:
        self._waits = waits
        self._arguments = ("run", "--data-dir", str(folder), "--listen", listen, *arguments)
        self._inside = inside
        self.ready: dict[str, Any] = {}

    def __enter__(self) -> Self:
        self.popen = subprocess.Popen(
            [*self._inside, *relay_command(*self._arguments, "--json")],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=clean_environment(),
        )
        if not self._waits:
            self.read_ready()
        return self

    def read_ready(self) -> None:
        assert self.popen.stdout is not None
        line = self.popen.stdout.readline()
        if not line:
            raise AssertionError(f"the relay did not start: {self.popen.communicate()[1]}")
        self.ready = json.loads(line)

    def read_log(self) -> str:
        """The next line of standard error."""
        assert self.popen.stderr is not None
        return self.popen.stderr.readline()

    @property
    def address(self) -> RelayAddress:
        return RelayAddress.parse(self.ready["address"])

    def end(self, by: signal.Signals = signal.SIGTERM) -> Ended:
        self.popen.send_signal(by)
        out, err = self.popen.communicate(timeout=DEADLINE_S)
        return Ended(self.popen.returncode, out, err)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.popen.poll() is None:
            self.popen.kill()
            self.popen.communicate()
        for pipe in (self.popen.stdout, self.popen.stderr):
            if pipe is not None:
                pipe.close()
