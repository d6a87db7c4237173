"""The seed system's command lines, where they make sense, do what they did."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from node.demo.processes import NODE, Daemon, environment, start_relay


class Seed:
    """Runs commands with the seed system's options."""

    def __init__(self, folder: Path, relay: str) -> None:
        self.folder = folder
        self.environment = {
            **environment(),
            "QUICNPROTOCHAT_SERVER": relay,
            "QUICNPROTOCHAT_MDNS": "0",
        }

    def __call__(self, who: str, *words: str, **options: Any) -> list[dict[str, Any]]:
        done = subprocess.run(
            [*NODE, words[0], "--state", str(self.folder / f"{who}.bin"), *words[1:], "--json"],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=60,
            **options,
        )
        assert done.returncode == 0, (words, done.stdout, done.stderr)
        return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture
def relay(tmp_path: Path) -> Iterator[Daemon]:
    started = start_relay(tmp_path)
    yield started
    started.stop()


def test_a_conversation_in_the_words_of_the_seed_system(tmp_path: Path, relay: Daemon) -> None:
    address = str(relay.ready["address"])
    seed = Seed(tmp_path, address)
    (alice,) = seed("alice", "register-state", "--name", "Alice", "--server", address)
    (bob,) = seed("bob", "register-state", "--name", "Bob")  # by QUICNPROTOCHAT_SERVER

    assert [each["relay"] for each in alice["registered"]] == [address] * 2
    assert [each["relay"] for each in bob["registered"]] == [address] * 2
    assert (tmp_path / "alice.bin.home" / "node.db").exists()
    assert seed("alice", "health", "--ds-server", address)[1]["status"] == "ok"

    seed("alice", "create-group", "--group-id", "friends")
    seed("alice", "invite", "--group-id", "friends", "--peer-key", bob["card"])
    seed("bob", "join", "--group-id=friends", "--wait", "20")
    seed("alice", "send", "--group-id", "friends", "--msg", "as ever")
    (message,) = seed("bob", "recv", "--group-id", "friends", "--timeout", "30")
    assert message["text"] == "as ever"

    seed("bob", "contacts", "add", alice["card"])
    seed("alice", "send", "--peer-key", bob["identity"], "--msg", "only to you")
    (message,) = seed("bob", "recv", "--timeout", "30")
    assert message["text"] == "only to you"
    seed("alice", "chat", "--peer-key", "Bob", input="and a line\n")
    (message,) = seed("bob", "recv", "--timeout", "30")
    assert message["text"] == "and a line"


def test_a_home_wins_over_a_state_file(tmp_path: Path) -> None:
    home = tmp_path / "home"
    done = subprocess.run(
        [*NODE, "init", "--name", "A", "--state", str(tmp_path / "x"), "--home", str(home)],
        env={**os.environ, "QUICNPROTOCHAT_MDNS": "0"},
        capture_output=True,
        text=True,
    )

    assert done.returncode == 0, done.stderr
    assert home.exists()
    assert not (tmp_path / "x.home").exists()
