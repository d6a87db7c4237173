"""The shell completes what the relay's program has."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(sys.executable).parent / "quicnprotochat-relay"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_script_for_each_shell(shell: str) -> None:
    made = subprocess.run([PROGRAM, "completion", shell], capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    assert "_QUICNPROTOCHAT_RELAY_COMPLETE" in made.stdout
    if (program := shutil.which(shell)) is not None:
        read = subprocess.run([program, "-n"], input=made.stdout, text=True, capture_output=True)
        assert read.returncode == 0, read.stderr


def test_commands_and_options_are_completed() -> None:
    assert "invite" in completed("quicnprotochat-relay", "inv")
    assert "--data-dir" in completed("quicnprotochat-relay", "stats", "--da")


def completed(*words: str) -> str:
    asked = {
        "_QUICNPROTOCHAT_RELAY_COMPLETE": "bash_complete",
        "COMP_WORDS": " ".join(words),
        "COMP_CWORD": str(len(words) - 1),
    }
    answer = subprocess.run(
        [PROGRAM], env={**os.environ, **asked}, capture_output=True, text=True, check=True
    )
    return answer.stdout
