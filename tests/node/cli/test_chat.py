"""`chat` on a real terminal and line by line, between real nodes."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import time
from typing import Any

import pytest

from tests.node.cli.real import DEADLINE_S, PROGRAM, Person

_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[=>()][AB0]?|\r")


class Terminal:
    """A person at a terminal in front of `chat`."""

    def __init__(self, person: Person, *arguments: str) -> None:
        ours, theirs = pty.openpty()
        self._terminal = ours
        self.process = subprocess.Popen(
            [*PROGRAM, "chat", *arguments],
            env={**person.environment, "TERM": "xterm", "PROMPT_TOOLKIT_NO_CPR": "1"},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            text=True,
        )
        person.processes.append(self.process)
        os.close(theirs)
        self.seen = ""

    def type(self, text: str) -> None:
        os.write(self._terminal, text.encode())

    def sees(self, text: str) -> None:
        """Waits until it has been shown since the last thing that was waited for."""
        deadline = time.monotonic() + DEADLINE_S
        while text not in self.seen:
            left = deadline - time.monotonic()
            assert left > 0, f"no {text!r} in {self.seen!r}"
            ready, _, _ = select.select([self._terminal], [], [], left)
            if ready:
                try:
                    block = os.read(self._terminal, 65_536)
                except OSError:  # the program closed its end
                    block = b""
                assert block, f"it ended without {text!r}: {self.seen!r}"
                self.seen += _ESCAPES.sub("", block.decode("utf-8", "replace"))
        self.seen = self.seen.partition(text)[2]

    def ended(self) -> int:
        deadline = time.monotonic() + DEADLINE_S
        while self.process.poll() is None:
            assert time.monotonic() < deadline
            if select.select([self._terminal], [], [], 0.05)[0]:
                try:
                    block = os.read(self._terminal, 65_536)
                    self.seen += _ESCAPES.sub("", block.decode("utf-8", "replace"))
                except OSError:
                    self.process.wait(DEADLINE_S)
        os.close(self._terminal)
        return self.process.returncode


@pytest.fixture
def friends(alice: Person, bob: Person) -> tuple[Person, Person]:
    """Two nodes in one group."""
    alice.run()
    bob.run()
    alice.one("contacts", "add", bob.one("whoami")["card"])
    alice.one("create-group", "friends")
    alice.one("invite", "friends", "Bob")
    bob.one("join", "friends", "--wait", str(DEADLINE_S))
    return alice, bob


def test_two_people_chat_on_terminals(friends: tuple[Person, Person]) -> None:
    alice, bob = friends
    alice.one("send", "friends", "--msg", "before you came")
    at_bobs = Terminal(bob, "friends")
    at_bobs.sees("-- friends (Alice, Bob)")
    at_bobs.sees("Alice: before you came")
    at_alices = Terminal(alice, "friends")
    at_alices.sees("you: before you came")

    at_alices.type("hello Bob\r")
    at_bobs.sees("Alice: hello Bob")
    at_alices.sees("you: hello Bob")
    at_alices.sees("✓✓")  # drawn over it when it was delivered
    at_bobs.type("/members\r")
    at_bobs.sees("Alice  admin")
    at_bobs.type("hello Alice \x1b[200~pasted\x1b[201~\r")
    at_alices.sees("Bob: hello Alice pasted")
    at_bobs.type("/help\r")
    at_bobs.sees("/quit")

    at_alices.type("\x04")
    assert at_alices.ended() == 0
    at_bobs.type("half a line\x03")
    assert at_bobs.ended() == 0
    assert "Traceback" not in at_alices.seen + at_bobs.seen
    assert bob.ask("recv") == [], "what was shown in the chat was read"
    texts = [entry["text"] for entry in alice.ask("recv")]
    assert texts == [], "half a line was not sent"


def test_scripts_chat_line_by_line_and_by_person(friends: tuple[Person, Person]) -> None:
    alice, bob = friends
    listening = bob.start("chat", "friends", "--json", stdin=True)
    speaking = alice.start("chat", "friends", "--json", stdin=True)
    assert speaking.stdin is not None
    assert speaking.stdout is not None
    assert listening.stdout is not None
    speaking.stdin.write("one\n\n/quit\n")
    speaking.stdin.flush()

    heard = [json.loads(listening.stdout.readline())["text"] for _ in range(2)]
    assert heard == ["one", "/quit"], "an empty line is nothing, and no line is a command"
    told: list[dict[str, Any]] = []
    while sum(line.get("status") in ("delivered", "read") for line in told) < 2:
        told.append(json.loads(speaking.stdout.readline()))
    speaking.stdin.close()
    assert speaking.wait(DEADLINE_S) == 0
    listening.send_signal(signal.SIGINT)
    assert listening.wait(DEADLINE_S) == 130

    bob.one("contacts", "add", alice.one("whoami")["card"])  # else it waits under `requests`
    direct = alice.start("chat", "--peer-key", "Bob", stdin=True)
    out, err = direct.communicate("only for you", timeout=DEADLINE_S)
    assert (direct.returncode, err) == (0, "")
    assert out.startswith("queued  ")
    (message,) = bob.ask("recv", "--timeout", str(DEADLINE_S))
    assert message["text"] == "only for you"
    (unknown,) = alice.ask("chat", "nobody", code=1)
    assert unknown["error"]["code"] == "unknown-group"
