"""One world of processes per module; a test that fails leaves a new one to the next."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.register_assert_rewrite("tests.durability.programs", "tests.durability.stories")

from tests.durability.programs import NodeProgram, World  # noqa: E402 - rewritten from here on


class Worlds:
    """`get` gives the world with all its programs running."""

    def __init__(self, factory: pytest.TempPathFactory) -> None:
        self._factory = factory
        self._world: World | None = None
        self.spoilt = False

    def get(self) -> World:
        if self.spoilt:
            self.end()
        if self._world is None:
            folder: Path = self._factory.mktemp("world")
            self._world = World(folder)
            self._world.start()
        self.spoilt = True  # until the test says otherwise
        for program in self._world.programs:
            if program.process is None:
                program.start()
        return self._world

    def end(self) -> None:
        if self._world is not None:
            self._world.end()
            self._world = None
        self.spoilt = False


@pytest.fixture(scope="module")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worlds]:
    made = Worlds(tmp_path_factory)
    try:
        yield made
    finally:
        made.end()


def not_for_a_while(sender: NodeProgram, message: str, recipient: NodeProgram) -> None:
    """No receipt of theirs within a second."""
    until = time.monotonic() + 1.0
    while time.monotonic() < until:
        assert sender.states(message)[recipient.device] in ("queued", "held"), "acknowledged"
