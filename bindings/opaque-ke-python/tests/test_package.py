"""The package as a whole: stub, exports, README, and that it works alone."""

import ast
import importlib.util
import os
import subprocess
import sys
import venv
from pathlib import Path

import opaque_ke
import pytest
from opaque_ke import _native

CRATE = Path(__file__).parents[1]
README = (CRATE / "README.md").read_text()
EXAMPLES = [block.split("```")[0] for block in README.split("```python\n")[1:]]


def test_stub_and_module_name_the_same_things():
    tree = ast.parse((Path(opaque_ke.__file__).parent / "__init__.pyi").read_text())
    named = {n.name for n in tree.body if isinstance(n, ast.ClassDef | ast.FunctionDef)}
    named |= {n.target.id for n in tree.body if isinstance(n, ast.AnnAssign)}
    public = {name for name in vars(_native) if not name.startswith("_")}
    assert named == set(opaque_ke.__all__) == public
    for cls in (node for node in tree.body if isinstance(node, ast.ClassDef)):
        members = {n.name for n in cls.body if isinstance(n, ast.FunctionDef)} - {"__new__"}
        actual = getattr(opaque_ke, cls.name)
        if not issubclass(actual, Exception):
            assert members == {name for name in vars(actual) if not name.startswith("_")}


@pytest.mark.skipif(importlib.util.find_spec("mypy") is None, reason="mypy is not installed")
def test_stubtest_agrees(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "mypy.stubtest", "opaque_ke"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_nothing_for_tests_is_shipped(taped):
    assert set(vars(taped)) - set(vars(_native)) == {"play", "stretch"}
    setup = opaque_ke.ServerSetup.generate()
    client = opaque_ke.ClientLogin(b"x")
    response = setup.login_start(None, client.request, b"").response
    with pytest.raises(ValueError, match="ksf"):
        client.finish(response, ksf=0)


def test_everything_public_is_documented():
    for name in opaque_ke.__all__:
        value = getattr(opaque_ke, name)
        if callable(value):
            assert value.__doc__, name
            assert value.__module__ in ("opaque_ke", "opaque_ke._native")


def test_the_readme_examples_run_as_they_stand(capsys):
    outputs = []
    for block in EXAMPLES:
        exec(compile(block, "README.md", "exec"), {"__name__": "readme"})
        outputs.append(capsys.readouterr().out.splitlines())
    assert outputs == [["True"], ["invalid-login"]]
    assert len([line for line in EXAMPLES[0].splitlines() if line]) <= 10


def test_the_readme_lists_every_error_and_code():
    for name in opaque_ke.__all__:
        value = getattr(opaque_ke, name)
        if isinstance(value, type) and issubclass(value, Exception):
            assert f"`{name}`" in README
    sources = "".join(path.read_text() for path in (CRATE / "src").glob("*.rs"))
    for code in ("malformed-request", "reflected", "state-used", "internal-panic"):
        assert f'"{code}"' in sources
        assert f"`{code}`" in README


# Compiles the crate when its sources are newer than the last build: 10 s then, 1 s otherwise.
@pytest.mark.timeout(900)
def test_the_wheel_runs_the_readme_in_an_empty_environment(build_wheel, tmp_path):
    wheel = build_wheel(tmp_path)
    assert "-cp311-abi3-" in wheel.name
    assert wheel.stat().st_size < 1_000_000
    place = tmp_path / "venv"
    venv.create(place, with_pip=True)
    python = place / "bin" / "python"
    without = {"PATH": os.environ["PATH"], "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    subprocess.run(
        [python, "-m", "pip", "install", "-q", "--no-index", "--no-deps", wheel],
        check=True,
        env=without,
    )
    code = (
        "\n".join(EXAMPLES)
        + "import opaque_ke, importlib.metadata as m\n"
        + "print(sorted(d.name for d in m.distributions()))\n"
        + "from pathlib import Path\n"
        + "print((Path(opaque_ke.__file__).parent / 'py.typed').exists())\n"
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
    assert lines[:2] == ["True", "invalid-login"]
    assert "opaque-ke-python" in lines[2]
    assert not {"cryptography", "pytest", "quicnprotochat"} & set(ast.literal_eval(lines[2]))
    assert lines[3] == "True"
