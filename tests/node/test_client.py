"""`node.client`: the example of the guide as it stands, and what it promises."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from pathlib import Path

import pytest

import node.client
from node.api.host import new_home
from node.client import Fault, connect
from tests.node.cli.real import DEADLINE_S, Person, alice, bob, people

__all__ = ["alice", "bob", "people"]

GUIDE = Path(__file__).parents[2] / "docs" / "bots.md"


def example() -> str:
    (code,) = re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    return str(code)


def test_the_bot_of_the_guide_answers_also_after_a_kill(
    alice: Person, bob: Person, tmp_path: Path
) -> None:
    alice.run()
    bob.run()
    alice.one("contacts", "add", bob.one("whoami")["card"])
    alice.one("create-group", "friends")
    alice.one("invite", "friends", "Bob")
    bob.one("join", "friends", "--wait", str(DEADLINE_S))
    program = tmp_path / "echo.py"
    program.write_text(example())
    assert len([line for line in example().splitlines() if line.strip()]) <= 10

    def start() -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, str(program)],
            env={**bob.environment, "PYTHONPATH": str(GUIDE.parents[1])},
            stderr=subprocess.PIPE,
            text=True,
        )

    bot = start()
    try:
        alice.one("send", "friends", "--msg", "hello")
        (answer,) = alice.ask("recv", "--timeout", str(DEADLINE_S))
        assert answer["text"] == "Alice said: hello"
        bot.kill()
        bot.communicate(timeout=DEADLINE_S)
        alice.one("send", "friends", "--msg", "still there?", "--wait", "delivered")
        bot = start()
        texts = [""]
        while texts[-1] != "Alice said: still there?":
            texts += [each["text"] for each in alice.ask("recv", "--timeout", str(DEADLINE_S))]
        # What it was acknowledging when it was killed may be answered twice, and nothing else.
        assert set(texts[1:-1]) <= {"Alice said: hello"}
    finally:
        bot.kill()
        _, err = bot.communicate(timeout=DEADLINE_S)
    assert err == ""


async def test_a_program_is_the_node_while_none_runs(tmp_path: Path) -> None:
    new_home(tmp_path / "home", "Alice")
    async with connect(tmp_path / "home", mdns=False) as here:
        made = await here.create_group("friends")
        async with connect(tmp_path / "home", mdns=False) as there:
            assert [group.group for group in await there.groups()] == [made.group]
            with pytest.raises(Fault) as refused:
                await there.send("enemies", "hi")
        sent = await here.send("friends", "to nobody")
        (own,) = await here.history("friends")

    assert refused.value.code == "unknown-group"
    assert (own.message, own.own, own.text) == (sent.message, True, "to nobody")
    assert not (tmp_path / "home" / "control.sock").exists()


async def test_a_cursor_is_free_again_when_its_loop_is_left(tmp_path: Path) -> None:
    new_home(tmp_path / "home", "Alice")
    async with connect(tmp_path / "home", mdns=False) as here:
        for _ in range(3):
            events = here.events(cursor="bot")
            assert (await anext(events))["event"] == "subscribed"
            with pytest.raises(Fault) as refused:
                await anext(here.events(cursor="bot"))
            assert refused.value.code == "cursor-in-use"
            await events.aclose()


async def test_leaving_ends_loops_that_wait(tmp_path: Path) -> None:
    new_home(tmp_path / "home", "Alice")
    async with connect(tmp_path / "home", mdns=False) as here:
        events = here.events()
        await anext(events)
        waiting = asyncio.ensure_future(anext(events))
        await asyncio.sleep(0)
    with pytest.raises(StopAsyncIteration):
        await waiting


async def test_a_home_without_an_account_is_refused_and_not_made(tmp_path: Path) -> None:
    async with connect(tmp_path / "nothing") as here:
        with pytest.raises(Fault) as refused:
            await here.whoami()

    assert refused.value.code == "no-account"
    assert not (tmp_path / "nothing").exists()


def test_every_public_name_is_there() -> None:
    assert all(hasattr(node.client, name) for name in node.client.__all__)
