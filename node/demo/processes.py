"""The real executables as child processes: one relay, some nodes, and commands to them."""

from __future__ import annotations

import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

BIN = Path(sys.executable).parent
NODE: tuple[str, ...] = (sys.executable, "-m", "node.cli.start")
READY_S = 20.0
COMMAND_S = 30.0


class StepFailed(Exception):
    """A step did not show what it should."""


@dataclass
class Daemon:
    """A relay or a node under `--json`: its events are read as they come."""

    name: str
    command: list[str]
    log: Path
    env: dict[str, str]
    ready: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._events: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self.heard: set[str] = set()  # kinds of events that came
        self.expected_to_run = True
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command, stdout=subprocess.PIPE, stderr=log, env=self.env, text=True
            )
        assert self.process.stdout is not None
        self._reader = threading.Thread(target=self._read, args=(self.process.stdout,), daemon=True)
        self._reader.start()
        self.ready = self.wait_for("ready")

    def _read(self, stream: IO[str]) -> None:
        with stream:
            for line in stream:
                event = json.loads(line)
                self.heard.add(event.get("event", ""))
                self._events.put(event)

    def wait_for(self, event: str, timeout_s: float = READY_S) -> dict[str, Any]:
        """The next event of that kind. Raises StepFailed."""
        deadline = time.monotonic() + timeout_s
        while (left := deadline - time.monotonic()) > 0:
            try:
                found = self._events.get(timeout=min(left, 0.2))
            except queue.Empty:
                if self.process.poll() is not None:
                    break
                continue
            if found.get("event") == event:
                return found
        raise StepFailed(f"{self.name} did not say {event!r}: {self._last_words()}")

    def _last_words(self) -> str:
        text = self.log.read_text(errors="replace").strip()
        return text.splitlines()[-1] if text else f"exit status {self.process.poll()}"

    def kill(self) -> None:
        """kill -9."""
        self.expected_to_run = False
        self.process.kill()
        self._ended()

    def stop(self) -> None:
        self.expected_to_run = False
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self._ended()

    def _ended(self) -> None:
        self.process.wait()
        self._reader.join()

    @property
    def died(self) -> bool:
        """It ended, and nobody here ended it."""
        return self.expected_to_run and self.process.poll() is not None


@dataclass
class Person:
    """Somebody with a home folder and a node."""

    name: str
    folder: Path
    node: Daemon | None = None
    identity: str = ""
    device: str = ""

    @property
    def home(self) -> Path:
        return self.folder / self.name.lower()

    def init(self) -> None:
        found = self.ask("init", "--name", self.name)
        self.identity, self.device = found["identity"], found["device"]

    def start(self, *options: str, port: int = 0) -> None:
        self.node = Daemon(
            f"{self.name}'s node",
            [*self._command(), "run", "--listen", f"127.0.0.1:{port}", *options],
            self.home.with_suffix(".log"),
            environment(),
        )

    def _command(self) -> list[str]:
        return [*NODE, "--home", str(self.home), "--json"]

    @property
    def port(self) -> int:
        assert self.node is not None
        return int(str(self.node.ready["listen"]).rpartition(":")[2])

    def lines(self, *words: str, timeout_s: float = COMMAND_S) -> list[dict[str, Any]]:
        """Runs a command with `--json`; its lines. Raises StepFailed with what it said."""
        command = [*self._command(), *words]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=timeout_s, env=environment()
            )
        except subprocess.TimeoutExpired:
            raise StepFailed(f"`{' '.join(words)}` took longer than {timeout_s:.0f} s") from None
        found = [json.loads(line) for line in done.stdout.splitlines()]
        if done.returncode != 0:
            said = found[-1].get("error", {}).get("message") if found else done.stderr.strip()
            raise StepFailed(f"`{words[0]}` failed with {done.returncode}: {said}")
        return found

    def ask(self, *words: str, timeout_s: float = COMMAND_S) -> dict[str, Any]:
        """The one line of a command."""
        found = self.lines(*words, timeout_s=timeout_s)
        if len(found) != 1:
            raise StepFailed(f"`{words[0]}` answered {len(found)} lines instead of one")
        return found[0]

    def ledger(self, message: str) -> dict[str, dict[str, Any]]:
        """The ledger of a message by recipient's name."""
        return {line["name"]: line for line in self.lines("ledger", message)}

    def wait_for_state(self, message: str, name: str, *states: str) -> dict[str, Any]:
        deadline = time.monotonic() + COMMAND_S
        line: dict[str, Any] = {}
        while time.monotonic() < deadline:
            line = self.ledger(message)[name]
            if line["state"] in states:
                return line
            time.sleep(0.2)
        raise StepFailed(f"the ledger says {line.get('state')!r} of {name}, not {states}")


def environment() -> dict[str, str]:
    """Ours, without settings that would point at somebody's real home."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("QUICNPROTOCHAT_")}
    return {**kept, "PYTHONUNBUFFERED": "1"}


def start_relay(folder: Path) -> Daemon:
    where = ("--listen", "127.0.0.1:0", "--data-dir", str(folder / "relay"))
    return Daemon(
        "the relay",
        [relay_program(), "run", "--json", *where],
        folder / "relay.log",
        environment(),
    )


def relay_program() -> str:
    """Installed with this program: beside its interpreter, or wherever commands are found.

    Raises StepFailed.
    """
    beside = BIN / "quicnprotochat-relay"
    found = str(beside) if beside.exists() else shutil.which(beside.name)
    if found is None:
        raise StepFailed(f"{beside.name} is not installed")
    return found
