"""People with homes, and the real program run on them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

DEADLINE_S = 60.0
PROGRAM = [sys.executable, "-m", "node.cli.start"]


class Person:
    """A home, and the processes started on it."""

    def __init__(self, home: Path, name: str) -> None:
        self.home = home
        self.name = name
        self.processes: list[subprocess.Popen[str]] = []
        self.environment = {
            **os.environ,
            "QUICNPROTOCHAT_HOME": str(home),
            "QUICNPROTOCHAT_MDNS": "0",  # the machine's own networks are not for tests
        }

    def start(
        self, *arguments: str, stdin: bool = False, program: Sequence[str] = PROGRAM
    ) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [*program, *arguments],
            env=self.environment,
            stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.processes.append(process)
        return process

    def ask(self, *arguments: str, code: int = 0) -> list[dict[str, Any]]:
        return finished(self.start(*arguments, "--json"), code)

    def one(self, *arguments: str) -> dict[str, Any]:
        (fields,) = self.ask(*arguments)
        return fields

    def run(self, *options: str, program: Sequence[str] = PROGRAM) -> subprocess.Popen[str]:
        listen = ("--listen", "127.0.0.1:0")
        process = self.start("run", *listen, "--json", *options, program=program)
        assert process.stdout is not None
        ready = json.loads(process.stdout.readline())
        assert ready["event"] == "ready"
        assert ready["web"] is None
        assert ready["device"] == self.one("whoami")["device"]
        return process


def finished(process: subprocess.Popen[str], code: int | None = 0) -> list[dict[str, Any]]:
    """What it wrote; `code` None: however it ended."""
    out, err = process.communicate(timeout=DEADLINE_S)
    assert code is None or process.returncode == code, (out, err)
    return [json.loads(line) for line in out.splitlines()]


@pytest.fixture
def people(tmp_path: Path) -> Iterator[list[Person]]:
    made = [Person(tmp_path / name, name) for name in ("Alice", "Bob")]
    yield made
    for person in made:
        for process in person.processes:
            if process.poll() is None:
                process.kill()
            if process.stdin is not None and process.stdin.closed:
                process.stdin = None  # communicate would flush it
            process.communicate(timeout=DEADLINE_S)


@pytest.fixture
def alice(people: list[Person]) -> Person:
    people[0].ask("init", "--name", "Alice")
    return people[0]


@pytest.fixture
def bob(people: list[Person]) -> Person:
    people[1].ask("init", "--name", "Bob")
    return people[1]
