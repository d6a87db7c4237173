"""Private files: written whole or not at all, and only in place of files."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from schemas.errors import Fault
from storage.files import PrivateFile


def test_a_pipe_or_a_device_is_not_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "null"
    os.mkfifo(pipe)
    with pytest.raises(Fault) as refused, PrivateFile(pipe) as file:
        file.write(b"parcels")
    assert refused.value.code == "cannot-write-file"
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert [each.name for each in tmp_path.iterdir()] == ["null"]
