"""The package as a whole: stub, exports, README, limits."""

import ast
import importlib.util
import subprocess
import sys
from pathlib import Path

import mls_rs
import pytest
from mls_rs import _native

ROOT = Path(__file__).parents[1]


def test_stub_and_module_name_the_same_things():
    tree = ast.parse((Path(mls_rs.__file__).parent / "__init__.pyi").read_text())
    named = {n.name for n in tree.body if isinstance(n, ast.ClassDef | ast.FunctionDef)}
    named |= {n.target.id for n in tree.body if isinstance(n, ast.AnnAssign)}
    public = {name for name in vars(_native) if not name.startswith("_")}
    assert named == set(mls_rs.__all__) == public
    assert sorted(mls_rs.__all__) == sorted(set(mls_rs.__all__))
    for cls in (node for node in tree.body if isinstance(node, ast.ClassDef)):
        members = {n.name for n in cls.body if isinstance(n, ast.FunctionDef)} - {"__new__"}
        actual = getattr(mls_rs, cls.name)
        if not issubclass(actual, Exception):
            assert members == {name for name in vars(actual) if not name.startswith("_")}


@pytest.mark.skipif(importlib.util.find_spec("mypy") is None, reason="mypy is not installed")
def test_stubtest_agrees(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "mypy.stubtest", "mls_rs"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_function_for_tests_is_shipped():
    assert not [name for name in vars(_native) if "dangerous" in name or "test" in name]


def test_everything_public_is_documented():
    for name in mls_rs.__all__:
        value = getattr(mls_rs, name)
        if callable(value):
            assert value.__doc__, name
            assert value.__module__ in ("mls_rs", "mls_rs._native")


def test_the_readme_examples_run_as_they_stand(capsys):
    blocks = (ROOT / "README.md").read_text().split("```python\n")[1:]
    outputs = []
    for block in blocks:
        exec(compile(block.split("```")[0], "README.md", "exec"), {"__name__": "readme"})
        outputs.append(capsys.readouterr().out.splitlines())
    assert outputs == [["b'hello bob'"], ["b'hello bob'", "b'hello alice'"], []]
    ten = [line for line in blocks[0].split("```")[0].splitlines() if line]
    assert len(ten) <= 10


def test_the_readme_lists_every_error():
    readme = (ROOT / "README.md").read_text()
    for name in mls_rs.__all__:
        value = getattr(mls_rs, name)
        if isinstance(value, type) and issubclass(value, Exception):
            assert f"`{name}`" in readme
