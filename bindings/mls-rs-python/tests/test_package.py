"""The package as a whole: stub, exports, README, and that it works alone."""

import importlib.util
from pathlib import Path

import mls_rs
import pytest
from mls_rs import _native

from tests import bindings

CRATE = Path(__file__).parents[1]
README = CRATE / "README.md"
EXAMPLES = bindings.examples(README)


def test_stub_and_module_name_the_same_things():
    bindings.check_stub(mls_rs)


@pytest.mark.skipif(importlib.util.find_spec("mypy") is None, reason="mypy is not installed")
def test_stubtest_agrees(tmp_path):
    bindings.check_stub_with_mypy(mls_rs, tmp_path)


def test_no_function_for_tests_is_shipped():
    assert not [name for name in vars(_native) if "dangerous" in name or "test" in name]


def test_everything_public_is_documented():
    bindings.check_documented(mls_rs)


def test_the_readme_examples_run_as_they_stand(capsys):
    outputs = bindings.run_here(EXAMPLES, lambda: capsys.readouterr().out)
    assert outputs == [["b'hello bob'"], ["b'hello bob'", "b'hello alice'"], []]
    assert len([line for line in EXAMPLES[0].splitlines() if line]) <= 10


def test_the_readme_lists_every_error():
    readme = README.read_text()
    assert [name for name in bindings.errors(mls_rs) if f"`{name}`" not in readme] == []


# Compiles the crate when its sources are newer than the last build: 20 s then, 1 s otherwise.
@pytest.mark.timeout(900)
def test_the_wheel_runs_the_readme_in_an_empty_environment(tmp_path):
    wheel = bindings.build_wheel(CRATE, tmp_path)
    assert wheel.stat().st_size < 4_000_000
    printed = bindings.run_alone(wheel, mls_rs, EXAMPLES, tmp_path)
    assert printed == ["b'hello bob'", "b'hello bob'", "b'hello alice'"]
