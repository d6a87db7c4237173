"""A home that is not its user's alone, or not theirs, or not there: mended, or refused in words."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from node.api.control_socket import bind_control_socket, connect_control_socket
from node.cli.checks import home_checks
from node.engine import commands as c
from node.home import create_home, open_engine
from node.paths import CONTROL_SOCKET
from node.permissions import PRIVATE, check_owner
from schemas.errors import Fault
from storage import files
from tests.mounting import OWN_MOUNTS, needs_mounting
from tests.node.home.commands import Commander

STRANGER = 54_321


COMMANDS = (["whoami"], ["run", "--listen", "127.0.0.1:0"], ["doctor"])
_POWERLESS = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if os.geteuid() == 0 else []


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    create_home(tmp_path / "home", "Ada")
    yield tmp_path / "home"
    (tmp_path / "home").chmod(0o700)


def refusals(
    home: Path, *commands: list[str], bound: Sequence[str] = _POWERLESS
) -> list[dict[str, str]]:
    """The errors that all the commands end with; root, too, is bound to the modes of files."""
    outcomes = Commander(home).several(*(commands or COMMANDS), wrapper=bound)
    assert {code for code, _ in outcomes} == {1}
    return [lines[-1]["error"] for _, lines in outcomes]


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_files_that_others_can_use_are_made_private_and_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    create_home(home, "Ada", b"first")
    for name in PRIVATE:
        if not (home / name).exists() and not name.endswith(("-wal", "-shm")):
            (home / name).touch()
        if (home / name).exists():
            (home / name).chmod(0o664)
    with open_engine(home, b"first") as engine:
        engine.run([c.Tick()], 1.8e9)
        assert {mode(path) for path in home.iterdir()} == {0o600}
    assert sum("now they cannot" in line for line in caplog.messages) == 4
    assert any("database.key" in line for line in caplog.messages)

    caplog.clear()
    (home / "node.db").chmod(0o644)
    monkeypatch.setattr(files, "make_private", lambda path: False)  # vfat keeps its modes
    with open_engine(home, b"first"):
        pass
    assert "cannot be changed here" in caplog.text


def test_doctor_tells_what_others_can_use(home: Path) -> None:
    (home / "node.db").chmod(0o644)
    check, *_ = home_checks(home, False)
    assert (check.name, check.ok) == ("permissions", False)
    assert "node.db" in check.detail
    assert "restart" in check.fix
    with open_engine(home):
        check, *_ = home_checks(home, False)
    assert check.ok


def test_the_control_socket_is_private_whatever_was_there(home: Path) -> None:
    (home / CONTROL_SOCKET).touch(0o666)
    with bind_control_socket(home):
        assert mode(home / CONTROL_SOCKET) == 0o600
        connection = connect_control_socket(home, 1.0)
        assert connection is not None
        connection.close()


def closed(home: Path) -> None:
    home.chmod(0)


def read_only(home: Path) -> None:
    home.chmod(0o500)


def read_only_file(home: Path) -> None:
    (home / "node.db").chmod(0o400)


def open_to_all(home: Path) -> None:
    home.chmod(0o777)


def gone(home: Path) -> None:
    (home / "node.db").unlink()


def only_the_key(home: Path) -> None:
    (home / "node.db").rename(home / "database.key")


@pytest.mark.parametrize(
    "spoil, code, hint",
    [
        (closed, "cannot-use-folder", "chmod 700"),
        (read_only, "cannot-use-folder", "chmod 700"),
        (read_only_file, "cannot-use-folder", "chmod 600"),
        (open_to_all, "home-open-to-others", "chmod 700"),
        (gone, "no-account", "init"),
        (only_the_key, "database-missing", "put node.db back"),
    ],
)
def test_a_home_that_cannot_be_used_says_what_to_do(
    home: Path, spoil: Callable[[Path], None], code: str, hint: str
) -> None:
    spoil(home)
    errors = refusals(home)
    assert {error["code"] for error in errors} == {code}
    assert all(hint in error["hint"] for error in errors)


def test_no_home_at_all_is_not_made(tmp_path: Path) -> None:
    (nowhere,) = refusals(tmp_path / "mistyped", ["whoami"])
    assert nowhere["code"] == "no-account"
    assert not (tmp_path / "mistyped").exists()


def test_a_home_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    looked, made = refusals(tmp_path / "file", ["whoami"], ["init", "--name", "Ada"])
    assert (looked["code"], made["code"]) == ("no-account", "cannot-use-folder")
    (tmp_path / "closed").mkdir(0o500)
    (made,) = refusals(tmp_path / "closed" / "new", ["init", "--name", "Ada"])
    assert made["code"] == "cannot-use-folder"


def test_the_key_of_a_database_that_is_elsewhere_is_not_overwritten(tmp_path: Path) -> None:
    home = tmp_path / "home"
    create_home(home, "Ada", b"first")
    key = (home / "database.key").read_bytes()
    (home / "node.db").rename(tmp_path / "elsewhere")
    for passphrase, code in ((None, "database-missing"), (b"second", "wrong-passphrase")):
        with pytest.raises(Fault) as raised:
            create_home(home, "Ada", passphrase)
        assert raised.value.code == code
    (home / "node.db").unlink(missing_ok=True)
    (tmp_path / "elsewhere").rename(home / "node.db")
    assert (home / "database.key").read_bytes() == key
    with open_engine(home, b"first"):
        pass


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to another user")
@pytest.mark.parametrize("what", [".", "node.db"])
def test_a_home_of_another_user_is_left_alone_by_root_too(home: Path, what: str) -> None:
    os.chown(home / what, STRANGER, STRANGER)
    for bound in (_POWERLESS, ()):
        for error in refusals(home, bound=bound):
            assert error["code"] == "not-your-home"
            assert f"user {STRANGER}" in error["message"]
            assert "chown" in error["hint"]
    assert sorted(path.name for path in home.iterdir()) == ["lock", "node.db"]


def test_a_disk_that_is_mounted_read_only_is_named(home: Path) -> None:
    needs_mounting()
    script = f"mount --bind '{home}' '{home}' && mount -o remount,bind,ro '{home}' && exec \"$@\""
    errors = refusals(home, bound=[*OWN_MOUNTS, "sh", "-c", script, "sh"])
    assert {error["code"] for error in errors} == {"disk-read-only"}
    assert all("mounted read-only" in error["message"] for error in errors)


def test_root_may_own_the_folder_of_somebody_elses_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the mount point of a volume."""
    monkeypatch.setattr(os, "geteuid", lambda: tmp_path.stat().st_uid + 1)
    if tmp_path.stat().st_uid == 0:
        assert check_owner(tmp_path)
    else:
        with pytest.raises(Fault):
            check_owner(tmp_path)
