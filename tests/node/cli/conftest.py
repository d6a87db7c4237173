"""Runs a command in this process: its exit code, and what it wrote where."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest

from node.cli.main import main
from node.cli.state import State
from tests.node.cli.fake_session import FakeSession
from tests.node.cli.real import alice, bob, people


@dataclass
class Ended:
    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[dict[str, Any]]:
        """Standard output as JSON lines; fails when anything else is there."""
        return [json.loads(line) for line in self.out.splitlines()]


Run = Callable[..., Ended]


@pytest.fixture
def session() -> FakeSession:
    return FakeSession()


@pytest.fixture
def root_logger() -> Iterator[None]:
    """A command sets up logging for its process; the tests after it want theirs back."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def run(
    root_logger: None, session: FakeSession, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Run:
    def run(*arguments: str, env: dict[str, str] | None = None) -> Ended:
        state = State(
            open_session=cast(Any, session.open),
            environment={"QUICNPROTOCHAT_HOME": str(tmp_path), **(env or {})},
        )
        code = main(list(arguments), state)
        captured = capsys.readouterr()
        return Ended(code, captured.out, captured.err)

    return run
