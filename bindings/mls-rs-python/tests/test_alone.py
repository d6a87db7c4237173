"""`mls_rs` works alone: its wheel, in an empty environment, without a network."""

import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

CRATE = Path(__file__).parents[1]
ROOT = CRATE.parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """As `make check` builds it; cargo has everything but the packing."""
    folder = tmp_path_factory.mktemp("wheel")
    target = os.environ.get("CARGO_TARGET_DIR", str(ROOT / "target"))
    done = subprocess.run(
        [sys.executable, "-m", "maturin", "build", "--release", "--locked", "--out", folder],
        cwd=CRATE,
        env={**os.environ, "CARGO_TARGET_DIR": target},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (built,) = folder.glob("*.whl")
    return built


# Compiles the crate when its sources are newer than the last build: 20 s then, 1 s otherwise.
@pytest.mark.timeout(900)
def test_the_wheel_runs_the_readme_in_an_empty_environment(wheel, tmp_path):
    assert "-cp311-abi3-" in wheel.name
    assert wheel.stat().st_size < 4_000_000
    place = tmp_path / "venv"
    venv.create(place, with_pip=True)
    python = place / "bin" / "python"
    without = {"PATH": os.environ["PATH"], "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    subprocess.run(
        [python, "-m", "pip", "install", "-q", "--no-index", "--no-deps", wheel],
        check=True,
        env=without,
    )
    blocks = (CRATE / "README.md").read_text().split("```python\n")[1:]
    code = (
        "\n".join(block.split("```")[0] for block in blocks)
        + "import mls_rs, importlib.metadata as m\n"
        + "print(sorted(d.name for d in m.distributions()))\n"
        + "from pathlib import Path\n"
        + "print((Path(mls_rs.__file__).parent / 'py.typed').exists())\n"
    )
    done = subprocess.run(
        [python, "-I", "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=without,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[:3] == ["b'hello bob'", "b'hello bob'", "b'hello alice'"]
    assert "mls-rs-python" in lines[3]
    assert not {"cryptography", "pytest", "quicnprotochat"} & set(eval(lines[3]))
    assert lines[4] == "True"
