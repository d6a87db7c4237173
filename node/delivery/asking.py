"""How delivery talks to the engine: one callable, commands in, answers out."""

from __future__ import annotations

from typing import Protocol, TypeVar

from node.engine.commands import Command

R = TypeVar("R")


class Ask(Protocol):
    """Runs a command in the engine; the answer comes when its effects are on disk.

    Raises the Fault that refuses it.
    """

    async def __call__(self, command: Command[R]) -> R: ...
