"""The wheel, the extension with a tape for randomness, and logins that need one line."""

import importlib.machinery
import importlib.util
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

CRATE = Path(__file__).parents[1]
ROOT = CRATE.parents[1]


def _build_wheel(folder: Path, crate: Path = CRATE) -> Path:
    """As `make check` builds it; cargo has everything but the packing."""
    target = os.environ.get("CARGO_TARGET_DIR", str(ROOT / "target"))
    done = subprocess.run(
        [
            *(sys.executable, "-m", "maturin", "build", "--release", "--locked", "--out", folder),
            *("--features", "pyo3/extension-module"),
        ],
        cwd=crate,
        env={**os.environ, "CARGO_TARGET_DIR": target},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="session")
def build_wheel() -> Callable[..., Path]:
    """Called with a folder."""
    return _build_wheel


@pytest.fixture(scope="session")
def taped(tmp_path_factory) -> ModuleType:
    """The binding as the crate in taped/ builds it: no released wheel has what it adds.

    That is `play(tape)`, from which randomness is read in order until it ends, `stretch`, and a key
    stretching 0 that does nothing. Compiles for some seconds the first time.
    """
    folder = tmp_path_factory.mktemp("vectors")
    with zipfile.ZipFile(_build_wheel(folder, CRATE / "tests" / "taped")) as wheel:
        (name,) = (name for name in wheel.namelist() if name.endswith(".so"))
        path = wheel.extract(name, folder)
    loader = importlib.machinery.ExtensionFileLoader("taped._native", path)
    spec = importlib.util.spec_from_file_location("taped._native", path, loader=loader)
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module
