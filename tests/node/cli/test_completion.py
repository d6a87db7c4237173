"""Completion, by the protocol that the shells' scripts speak."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.node.cli.conftest import Run
from tests.node.cli.real import PROGRAM, Person


def completed(person: Person, line: str, *, kinds: bool = False) -> list[str]:
    """What fish would be offered after `line`; with `kinds`, only of what kind that is."""
    words = line.split(" ")
    done = subprocess.run(
        PROGRAM,
        env={
            **person.environment,
            "_QUICNPROTOCHAT_COMPLETE": "fish_complete",
            "COMP_WORDS": line,
            "COMP_CWORD": words[-1],
        },
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stderr == ""
    lines = [each for each in done.stdout.splitlines() if each]
    offered = [each.split("\t")[0].split(",", 1) for each in lines]
    return [kind if kinds else value for kind, value in offered]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_has_its_script(run: Run, shell: str) -> None:
    ended = run("completion", shell)

    assert ended.code == 0
    assert f"_QUICNPROTOCHAT_COMPLETE={shell}_complete" in ended.out
    if shell == "bash":
        subprocess.run(["bash", "-n"], input=ended.out, text=True, check=True)


def test_commands_options_groups_and_people_are_completed(alice: Person, bob: Person) -> None:
    alice.run()
    alice.one("create-group", "friends")
    alice.one("create-group", "old friends")
    alice.one("contacts", "add", bob.one("whoami")["card"])
    name = alice.ask("contacts")[0]["name"]  # Bob's name, or his key while his node is away

    assert "create-group" in completed(alice, "quicnprotochat cre")
    assert "--cursor" in completed(alice, "quicnprotochat recv --c")
    assert completed(alice, "quicnprotochat send fr") == ["friends"]
    assert set(completed(alice, "quicnprotochat members ")) == {"friends", "old friends"}
    assert completed(alice, f"quicnprotochat invite friends {name[:2]}") == [name]
    assert completed(alice, f"quicnprotochat send --peer-key {name[:2]}") == [name]
    assert set(completed(alice, "quicnprotochat chat ")) == {"friends", "old friends", name}


def test_folders_and_files_are_left_to_the_shell(alice: Person) -> None:
    done = completed(alice, "quicnprotochat --home /", kinds=True)

    assert done == ["dir"]
    assert completed(alice, "quicnprotochat --passphrase-file /", kinds=True) == ["file"]


def test_bash_completes_a_name_of_several_words_as_one(alice: Person) -> None:
    alice.run()
    alice.one("create-group", "old friends; & foes")
    script = """
        eval "$(quicnprotochat completion bash)"
        COMP_WORDS=(quicnprotochat members ol) COMP_CWORD=2
        _quicnprotochat_completion quicnprotochat
        eval "set -- ${COMPREPLY[0]}"
        printf '%s\n' "$#" "$1"
    """
    done = subprocess.run(
        ["bash", "-c", script],
        env={**alice.environment, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert (done.stdout, done.stderr) == ("1\nold friends; & foes\n", "")


def test_with_no_node_running_nothing_is_said_soon(alice: Person) -> None:
    began = time.monotonic()

    assert completed(alice, "quicnprotochat send fr") == []
    assert time.monotonic() - began < 5
    assert completed(Person(alice.home / "no", "x"), "quicnprotochat send fr") == []
    assert not (alice.home / "no").exists()
