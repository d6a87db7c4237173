"""The package as a whole: stub, exports, README, and that it works alone."""

import importlib.util
from pathlib import Path

import opaque_ke
import pytest
from opaque_ke import _native

from tests import bindings

CRATE = Path(__file__).parents[1]
README = CRATE / "README.md"
EXAMPLES = bindings.examples(README)


def test_stub_and_module_name_the_same_things():
    bindings.check_stub(opaque_ke)


@pytest.mark.skipif(importlib.util.find_spec("mypy") is None, reason="mypy is not installed")
def test_stubtest_agrees(tmp_path):
    bindings.check_stub_with_mypy(opaque_ke, tmp_path)


def test_nothing_for_tests_is_shipped(taped):
    assert set(vars(taped)) - set(vars(_native)) == {"play", "stretch"}
    setup = opaque_ke.ServerSetup.generate()
    client = opaque_ke.ClientLogin(b"x")
    response = setup.login_start(None, client.request, b"").response
    with pytest.raises(ValueError, match="ksf"):
        client.finish(response, ksf=0)


def test_everything_public_is_documented():
    bindings.check_documented(opaque_ke)


def test_the_readme_examples_run_as_they_stand(capsys):
    outputs = bindings.run_here(EXAMPLES, lambda: capsys.readouterr().out)
    assert outputs == [["True"], ["invalid-login"]]
    assert len([line for line in EXAMPLES[0].splitlines() if line]) <= 10


def test_the_readme_lists_every_error_and_code():
    readme = README.read_text()
    assert [name for name in bindings.errors(opaque_ke) if f"`{name}`" not in readme] == []
    sources = "".join(path.read_text() for path in (CRATE / "src").glob("*.rs"))
    for code in ("malformed-request", "reflected", "state-used", "internal-panic"):
        assert f'"{code}"' in sources
        assert f"`{code}`" in readme


# Compiles the crate when its sources are newer than the last build: 10 s then, 1 s otherwise.
@pytest.mark.timeout(900)
def test_the_wheel_runs_the_readme_in_an_empty_environment(tmp_path):
    wheel = bindings.build_wheel(CRATE, tmp_path)
    assert wheel.stat().st_size < 1_000_000
    assert bindings.run_alone(wheel, opaque_ke, EXAMPLES, tmp_path) == ["True", "invalid-login"]
