"""What holds of every binding's package: its stub, docstrings, README and wheel.

For the tests in `bindings/*/tests`. A failed check is an AssertionError.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import venv
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parents[1]


def check_stub(module: ModuleType) -> None:
    """Stub, `__all__` and extension name the same things, and classes the same members."""
    native = module._native
    tree = ast.parse((_folder(module) / "__init__.pyi").read_text())
    named = {n.name for n in tree.body if isinstance(n, ast.ClassDef | ast.FunctionDef)}
    named |= {
        n.target.id
        for n in tree.body
        if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name)
    }
    public = {name for name in vars(native) if not name.startswith("_")}
    assert named == set(module.__all__) == public
    assert sorted(module.__all__) == sorted(set(module.__all__))
    for cls in (node for node in tree.body if isinstance(node, ast.ClassDef)):
        members = {n.name for n in cls.body if isinstance(n, ast.FunctionDef)} - {"__new__"}
        actual = getattr(module, cls.name)
        if not issubclass(actual, Exception):
            assert members == {name for name in vars(actual) if not name.startswith("_")}


def check_stub_with_mypy(module: ModuleType, folder: Path) -> None:
    """`folder` is an empty one."""
    done = subprocess.run(
        [sys.executable, "-m", "mypy.stubtest", module.__name__],
        capture_output=True,
        text=True,
        cwd=folder,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def check_documented(module: ModuleType) -> None:
    name = module.__name__
    for value in _public(module):
        if callable(value):
            assert value.__doc__, value
            assert value.__module__ in (name, f"{name}._native")


def errors(module: ModuleType) -> Iterator[str]:
    """The names of the exceptions that it exports."""
    for value in _public(module):
        if isinstance(value, type) and issubclass(value, Exception):
            yield value.__name__


def examples(readme: Path) -> list[str]:
    return [block.split("```")[0] for block in readme.read_text().split("```python\n")[1:]]


def run_here(blocks: list[str], printed: Callable[[], str]) -> list[list[str]]:
    """What each prints, in lines; `printed` takes what was printed since it was called last."""
    outputs = []
    for block in blocks:
        exec(compile(block, "README.md", "exec"), {"__name__": "readme"})
        outputs.append(printed().splitlines())
    return outputs


def build_wheel(crate: Path, folder: Path) -> Path:
    """In `folder`. It compiles when sources are newer than the last build."""
    target = os.environ.get("CARGO_TARGET_DIR", str(ROOT / "target"))
    done = subprocess.run(
        [sys.executable, "-m", "maturin", "build", "--release", "--locked", "--out", folder],
        cwd=crate,
        env={**os.environ, "CARGO_TARGET_DIR": target},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (built,) = folder.glob("*.whl")
    return built


def run_alone(wheel: Path, module: ModuleType, blocks: list[str], folder: Path) -> list[str]:
    """The lines that the blocks print, one after the other, in an environment that has the wheel
    and pip and nothing else, without a network; the package has its types with it there.
    """
    assert "-cp311-abi3-" in wheel.name
    place = folder / "venv"
    venv.create(place, with_pip=True)
    python = place / "bin" / "python"
    without = {"PATH": os.environ["PATH"], "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    subprocess.run(
        [python, "-m", "pip", "install", "-q", "--no-index", "--no-deps", wheel],
        check=True,
        env=without,
    )
    name = module.__name__
    code = (
        "\n".join(blocks)
        + f"import {name}, importlib.metadata as m\n"
        + "print(sorted(d.name for d in m.distributions()))\n"
        + "from pathlib import Path\n"
        + f"print((Path({name}.__file__).parent / 'py.typed').exists())\n"
    )
    done = subprocess.run(
        [python, "-I", "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        cwd=folder,
        env=without,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    *lines, installed, typed = done.stdout.splitlines()
    others = set(ast.literal_eval(installed)) - {"pip", "setuptools"}
    assert others == {f"{name.replace('_', '-')}-python"}
    assert typed == "True"
    return lines


def _folder(module: ModuleType) -> Path:
    assert module.__file__ is not None
    return Path(module.__file__).parent


def _public(module: ModuleType) -> list[object]:
    return [getattr(module, name) for name in module.__all__]
