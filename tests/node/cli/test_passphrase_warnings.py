"""A passphrase that can be guessed, or read by others, is taken and spoken of."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from node.api.shapes import Account
from tests.node.cli.conftest import Run
from tests.node.cli.fake_session import FakeSession

SHORT, OPEN = "fewer than 8 characters", "other users of this machine can read"
LONG = "correct horse"


@pytest.fixture(autouse=True)
def answers(session: FakeSession) -> None:
    session.answers = {"whoami": Account("1" * 64, "2" * 64, "Ada", "card", [], [], "1 2")}


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A file that only its owner can read."""
    file = tmp_path / "secret"
    file.touch(mode=0o600)
    return file


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    return {"QUICNPROTOCHAT_HOME": str(tmp_path / "home")}


@pytest.mark.parametrize("text, warned", [("x", True), ("ü" * 7, True), ("ü" * 8, False)])
def test_a_short_one_is_told_when_it_is_chosen(
    run: Run, home: dict[str, str], secret: Path, text: str, warned: bool
) -> None:
    opened = ("--passphrase-file", str(secret))
    secret.write_text(f"{LONG}\n")
    made = run("init", "--name", "Ada", *opened, env=home)
    assert (made.code, "warning" in made.err) == (0, False)
    new = secret.with_name("new")
    new.touch(mode=0o600)
    new.write_text(f"{text}\n")
    changed = run("passphrase", "change", "--new-passphrase-file", str(new), *opened, env=home)
    assert changed.code == 0
    assert (SHORT in changed.err) is warned
    used = run("passphrase", "remove", "--passphrase-file", str(new), env=home)
    assert (used.code, used.err) == (0, ""), "it was told when it was chosen"
    again = run("passphrase", "set", "--passphrase-file", str(new), "--json", env=home)
    assert (again.code, again.err) == (0, "")


@pytest.mark.parametrize("mode, warned", [(0o600, False), (0o640, True), (0o604, True)])
def test_a_file_that_others_can_read_is_told(
    run: Run, home: dict[str, str], secret: Path, mode: int, warned: bool
) -> None:
    secret.write_text(LONG)
    secret.chmod(mode)
    made = run("init", "--name", "Ada", "--passphrase-file", str(secret), env=home)
    assert made.code == 0
    assert (OPEN in made.err) is warned
    assert (str(secret) in made.err) is warned


def test_a_pipe_is_nobody_elses(run: Run, home: dict[str, str]) -> None:
    reading, writing = os.pipe()
    os.write(writing, LONG.encode())
    os.close(writing)
    made = run("init", "--name", "Ada", "--passphrase-file", f"/dev/fd/{reading}", env=home)
    os.close(reading)
    assert (made.code, "warning" in made.err) == (0, False)
