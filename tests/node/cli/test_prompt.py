"""The passphrase prompt on a real terminal: nothing is echoed, a wrong one is told, Ctrl-C is
clean, and without a terminal nobody waits for an answer that cannot come."""

from __future__ import annotations

import contextlib
import errno
import os
import pty
import select
import subprocess
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from node.home import create_home
from tests.node.cli.real import DEADLINE_S, PROGRAM

SECRET = "correct horse"
CTRL_C = "\x03"


class Terminal:
    """A program that has a terminal of its own, as a user sees it."""

    def __init__(self, *words: str, environment: dict[str, str]) -> None:
        self.shown = ""
        self._ours, theirs = pty.openpty()
        self.process = subprocess.Popen(
            [*PROGRAM, *words],
            env=environment,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            preexec_fn=_take_terminal,
        )
        os.close(theirs)

    def wait_for(self, text: str) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while text not in self.shown:
            assert time.monotonic() < deadline, f"{text!r} is not in {self.shown!r}"
            assert self._read(1.0), f"it ended without {text!r}: {self.shown!r}"

    def type(self, text: str) -> None:
        os.write(self._ours, text.encode())

    def end(self) -> int:
        """Reads to the end; the exit code."""
        while self._read(DEADLINE_S):
            pass
        return self.process.wait(DEADLINE_S)

    @property
    def echoes(self) -> bool:
        return bool(termios.tcgetattr(self._ours)[3] & termios.ECHO)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._ours)

    def _read(self, wait_s: float) -> bool:
        """False at the end."""
        if not select.select([self._ours], [], [], wait_s)[0]:
            return True
        try:
            data = os.read(self._ours, 4096)
        except OSError as error:
            if error.errno != errno.EIO:  # the other end is closed
                raise
            return False
        self.shown += data.decode()
        return bool(data)


def _take_terminal() -> None:
    """Its controlling terminal, so that Ctrl-C reaches it: the first one that is opened."""
    os.close(os.open(os.ttyname(0), os.O_RDWR))


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    ours = {k: v for k, v in os.environ.items() if not k.startswith("QUICNPROTOCHAT_")}
    return {
        **ours,
        "QUICNPROTOCHAT_HOME": str(tmp_path / "home"),
        "QUICNPROTOCHAT_MDNS": "0",
        "TERM": "dumb",
    }


@pytest.fixture
def home(tmp_path: Path) -> Path:
    create_home(tmp_path / "home", "Ada", SECRET.encode())
    return tmp_path / "home"


@contextmanager
def terminal(*words: str, environment: dict[str, str]) -> Iterator[Terminal]:
    with contextlib.closing(Terminal(*words, environment=environment)) as made:
        yield made


def test_it_is_asked_for_without_echo(home: Path, environment: dict[str, str]) -> None:
    with terminal("whoami", environment=environment) as user:
        user.wait_for("Passphrase of this home: ")
        assert not user.echoes
        user.type(SECRET + "\n")
        assert user.end() == 0
        assert "Ada" in user.shown
        assert SECRET not in user.shown


def test_a_wrong_one_is_told(home: Path, environment: dict[str, str]) -> None:
    with terminal("whoami", environment=environment) as user:
        user.wait_for("Passphrase of this home: ")
        user.type("battery staple\n")
        assert user.end() == 1
        assert "wrong-passphrase" in user.shown
        assert "hint" in user.shown
        assert "staple" not in user.shown
        assert "Traceback" not in user.shown


@pytest.mark.parametrize("words", [("whoami",), ("passphrase", "change")])
def test_ctrl_c_leaves_everything_as_it_was(
    home: Path, environment: dict[str, str], words: tuple[str, ...]
) -> None:
    before = (home / "database.key").read_bytes()
    with terminal(*words, environment=environment) as user:
        user.wait_for("Passphrase of this home: ")
        user.type("half of i")
        user.type(CTRL_C)
        assert user.end() == 130
        assert user.echoes, "the terminal is left as it was found"
        assert "Traceback" not in user.shown
        assert "half" not in user.shown
    assert (home / "database.key").read_bytes() == before
    assert sorted(path.name for path in home.iterdir()) == ["database.key", "lock", "node.db"]


def test_a_new_one_is_asked_for_twice(tmp_path: Path, environment: dict[str, str]) -> None:
    words = ("init", "--name", "Ada", "--encrypt")
    with terminal(*words, environment=environment) as user:
        user.wait_for("New passphrase for this home: ")
        user.type(SECRET + "\n")
        user.wait_for("Once more: ")
        user.type("something else\n")
        user.wait_for("both again.\r\nNew passphrase for this home: ")
        user.shown = ""
        user.type(SECRET + "\n")
        user.wait_for("Once more: ")
        user.type(SECRET + "\n")
        assert user.end() == 0
    assert (tmp_path / "home").exists()


def test_an_empty_one_is_refused(tmp_path: Path, environment: dict[str, str]) -> None:
    with terminal("init", "--name", "Ada", "--encrypt", environment=environment) as user:
        user.wait_for("New passphrase for this home: ")
        user.type("\n")
        user.wait_for("Once more: ")
        user.type("\n")
        assert user.end() == 1
        assert "bad-passphrase" in user.shown
    assert not (tmp_path / "home").exists()


def test_an_account_is_kept_by_who_answers_no(environment: dict[str, str]) -> None:
    with terminal("delete-account", environment=environment) as user:
        user.wait_for("[y/N]: ")
        user.type("n\n")
        assert user.end() == 1
        assert "the account is kept (not-confirmed)" in user.shown


def test_without_a_terminal_nobody_is_asked(home: Path, environment: dict[str, str]) -> None:
    for stdin in (subprocess.DEVNULL, subprocess.PIPE):
        done = subprocess.Popen(
            [*PROGRAM, "whoami"],
            env=environment,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        out, err = done.communicate(timeout=DEADLINE_S)
        assert (done.returncode, out) == (1, "")
        assert "passphrase-needed" in err
        assert "--passphrase-file" in err
