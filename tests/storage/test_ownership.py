"""What root makes in somebody else's folder is theirs: a service must be able to go on with it."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest

from schemas.errors import Fault
from storage.files import make_private_file, write_private_file
from storage.lock import LOCK_FILE, FolderLock
from storage.sqlite import copy_database, open_database

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root makes files for others")


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    folder = tmp_path / "theirs"
    folder.mkdir(mode=0o700)
    owner = pwd.getpwnam("nobody")
    os.chown(folder, owner.pw_uid, owner.pw_gid)
    return folder


def owners(folder: Path) -> set[tuple[int, int]]:
    found = [each.lstat() for each in folder.iterdir()]
    return {(each.st_uid, each.st_gid) for each in found}


def test_locks_databases_and_private_files_are_the_folders_owners(theirs: Path) -> None:
    status = theirs.stat()
    with FolderLock(theirs):
        write_private_file(theirs / "seed", bytes(32))
        connection = open_database(theirs / "live.db")
        connection.execute("CREATE TABLE t (a)")
        copy_database(theirs / "live.db", theirs / "copy.db")
        made = {each.name for each in theirs.iterdir()}
        assert made == {"lock", "seed", "live.db", "live.db-wal", "live.db-shm", "copy.db"}
        assert owners(theirs) == {(status.st_uid, status.st_gid)}
        connection.close()


def test_what_root_had_made_before_stays_roots(theirs: Path) -> None:
    """It could be a link to something that is not theirs."""
    (theirs / "live.db").touch()
    make_private_file(theirs / "live.db")
    assert owners(theirs) == {(0, 0)}


@pytest.mark.parametrize("there", [True, False])
def test_a_link_in_it_leads_root_nowhere(theirs: Path, tmp_path: Path, there: bool) -> None:
    target = tmp_path / "of-root"
    if there:
        target.write_text("precious")
    for name in (LOCK_FILE, "live.db"):
        (theirs / name).symlink_to(target)
    with pytest.raises(Fault):
        FolderLock(theirs).acquire()
    with pytest.raises(Fault):
        make_private_file(theirs / "live.db")
    assert target.exists() == there
    if there:
        assert (target.read_text(), target.stat().st_uid) == ("precious", 0)


def test_our_own_folder_is_as_it_always_was(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "live.db").symlink_to(tmp_path / "elsewhere" / "live.db")
    make_private_file(tmp_path / "live.db")
    assert (tmp_path / "elsewhere" / "live.db").exists()
