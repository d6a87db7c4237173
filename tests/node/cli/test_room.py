"""What `chat` tells beside the messages: forks of its own group, once, on one line."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Sequence
from typing import Any, cast

import pytest

from node.api import shapes as s
from node.cli import chat
from node.cli.room import Room
from node.cli.sentences import OF_BRANCHES
from node.cli.state import State
from tests.node.cli.fake_session import GROUP

FRIENDS = s.Group(GROUP, "friends", "group", 3, "hybrid", "active", True, None, [])


def fork(kind: str, group: str = GROUP) -> dict[str, Any]:
    return {"event": kind, "group": group, "name": "friends", "detail": "so it\x1b is"}


class FakeNode:
    """Yields `told`, and is silent then."""

    def __init__(self, told: Sequence[dict[str, Any]]) -> None:
        self._told = told
        self.silent = asyncio.Event()

    async def events(self) -> AsyncGenerator[dict[str, Any], None]:
        for event in self._told:
            yield event
        self.silent.set()

    async def messages(self, group: str, *, cursor: str) -> AsyncGenerator[s.Message, None]:
        await asyncio.Event().wait()
        yield cast(Any, None)

    async def group(self, name: str) -> s.Group:
        return FRIENDS


@pytest.mark.parametrize("kind", sorted(OF_BRANCHES))
async def test_a_fork_is_a_line_on_the_terminal(kind: str) -> None:
    node = FakeNode([fork(kind, "99" * 16), fork(kind)])

    (line,) = [line async for line in Room(cast(Any, node), FRIENDS).changes()]

    assert "friends" in line
    assert line.endswith(": so it\\x1b is")


@pytest.mark.parametrize("as_json", [True, False])
async def test_a_fork_is_a_line_for_scripts(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], as_json: bool
) -> None:
    node = FakeNode([fork("group-healed", "99" * 16), fork("group-healed")])

    async def until_silent() -> AsyncGenerator[str, None]:
        await node.silent.wait()
        return
        yield

    monkeypatch.setattr(chat, "_lines", until_silent)
    state = State(environment={})
    state.json = as_json
    await chat._by_lines(state, cast(Any, node), GROUP, "bot")

    out, err = capsys.readouterr()
    if as_json:
        assert [json.loads(line) for line in out.splitlines()] == [fork("group-healed")]
    else:
        assert (out, err) == ("", "-- friends: so it\\x1b is\n")
