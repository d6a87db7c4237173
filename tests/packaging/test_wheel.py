"""The wheel as it is installed: what it holds, and that its commands work with nothing else here.

The environment is a new one; third-party packages come from the one that runs the tests, by path,
with this project's own editable installation left out. So it needs no network and no compiler.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
_OURS = ("quicnprotochat", "__editable__", "_editable", "_quicnprotochat", "__pycache__")
_TOP = {"node", "relay", "discovery", "transport", "identity", "storage", "schemas", "telemetry"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    # What is in git, not what lies about in the checkout.
    source = folder / "source"
    source.mkdir()
    archive = subprocess.run(
        ["git", "archive", "HEAD", *sorted(_TOP), "pyproject.toml", "README.md", "LICENSE"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    subprocess.run(["tar", "-x", "-C", source], input=archive.stdout, check=True)
    build = "import hatchling.build, sys; print(hatchling.build.build_wheel(sys.argv[1]))"
    subprocess.run([sys.executable, "-c", build, folder], cwd=source, check=True)
    (made,) = folder.glob("*.whl")
    return made


@pytest.fixture(scope="module")
def programs(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the commands of a new environment that has the wheel installed."""
    folder = tmp_path_factory.mktemp("environment with a space")
    venv.create(folder, with_pip=True, symlinks=True)
    python = folder / "bin" / "python"
    subprocess.run(
        [python, "-m", "pip", "install", "-q", "--no-deps", "--no-index", wheel], check=True
    )
    (site,) = folder.glob("lib/python*/site-packages")
    others = folder / "others"
    others.mkdir()
    (theirs,) = (Path(path) for path in sys.path if path.endswith("site-packages"))
    for package in theirs.iterdir():
        if not package.name.startswith(_OURS) and package.suffix != ".pth":
            (others / package.name).symlink_to(package)
    (site / "others.pth").write_text(f"{others}\n")
    return folder / "bin"


def names(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        return archive.namelist()


def test_what_the_code_reads_is_there(wheel: Path) -> None:
    held = set(names(wheel))
    tracked = subprocess.run(
        ["git", "ls-tree", "-r", "--name-only", "HEAD", *sorted(_TOP)],
        cwd=ROOT,
        capture_output=True,
        check=True,
        text=True,
    ).stdout.split()

    assert held >= set(tracked)
    for suffix in (".capnp", ".sql", "py.typed"):
        assert any(name.endswith(suffix) for name in held), suffix
    assert {f"{top}/py.typed" for top in _TOP} <= held


def test_nothing_else_is_there(wheel: Path) -> None:
    tops = {name.partition("/")[0] for name in names(wheel)}

    assert {top for top in tops if not top.endswith(".dist-info")} == _TOP
    assert [name for name in names(wheel) if "dangerous" in name or "test" in name] == []


def test_the_metadata_holds_no_path(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (found,) = (name for name in archive.namelist() if name.endswith("/METADATA"))
        metadata = archive.read(found).decode()

    assert "file:" not in metadata
    for binding in ("mls-rs-python", "opaque-ke-python"):
        assert f"Requires-Dist: {binding}==" in metadata


@pytest.mark.parametrize("program", ["quicnprotochat", "quicnprotochat-relay"])
def test_commands_start_from_their_own_files(programs: Path, tmp_path: Path, program: str) -> None:
    done = subprocess.run(
        [programs / program, "--help"], capture_output=True, text=True, cwd=tmp_path
    )
    where = subprocess.run(
        [programs / "python", "-c", "import node, relay; print(node.__file__, relay.__file__)"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert str(ROOT) not in where.stdout
    assert where.stdout.count(str(programs.parent)) == 2


def clean_environment() -> Iterator[tuple[str, str]]:
    for name, value in os.environ.items():
        if not name.startswith(("QUICNPROTOCHAT_", "PYTHON", "VIRTUAL_ENV")):
            yield name, value


@pytest.mark.timeout(180)  # ten steps of ten processes each, on machines that are busy
def test_the_whole_flow_works_from_the_wheel(programs: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [programs / "quicnprotochat", "demo-group", "--json"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=dict(clean_environment()),
    )
    steps = [json.loads(line) for line in done.stdout.splitlines()]

    assert done.returncode == 0, (steps, done.stderr)
    assert all(step["ok"] for step in steps)
    assert len(steps) >= 9
