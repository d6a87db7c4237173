"""An operator's commands as root, on the data folder of a service that has a user of its own."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest
from click.testing import CliRunner

from relay.main import main
from tests.relay.process import RelayProcess

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root makes files for others")


def give(path: Path) -> None:
    owner = pwd.getpwnam("nobody")
    os.chown(path, owner.pw_uid, owner.pw_gid)


def roots(folder: Path) -> list[str]:
    return [each.name for each in folder.iterdir() if each.stat().st_uid == 0]


def test_everything_in_the_folder_is_its_owners(tmp_path: Path) -> None:
    live, restored, moved = (tmp_path / name for name in ("live", "restored", "moved"))
    for folder in (live, restored, moved):
        folder.mkdir(mode=0o700)
        give(folder)

    def command(folder: Path, name: str, *arguments: str) -> None:
        done = CliRunner().invoke(main, [name, "--data-dir", str(folder), *arguments, "--json"])
        assert done.exit_code == 0, done.output
        assert roots(folder) == [], name

    with RelayProcess(live) as relay:
        assert roots(live) == []
        command(live, "invite")
        relay.end()
    for path in live.iterdir():
        give(path)
    command(live, "migrate")
    command(live, "invite")
    command(live, "audit", "--checkpoint", str(live / "friday.json"))
    command(live, "backup", str(live / "copy.db"))
    command(restored, "restore", str(live / "copy.db"))
    command(moved, "migrate", "--from", f"sqlite:{live}", "--to", f"sqlite:{moved}")
    assert {"relay.db", "lock", "device.seed"} <= set(os.listdir(moved))
