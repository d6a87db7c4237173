"""The extension with a tape for randomness."""

import importlib.machinery
import importlib.util
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

from tests import bindings

CRATE = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def taped(tmp_path_factory) -> ModuleType:
    """The binding as the crate in taped/ builds it: no released wheel has what it adds.

    That is `play(tape)`, from which randomness is read in order until it ends, `stretch`, and a key
    stretching 0 that does nothing. Compiles for some seconds the first time.
    """
    folder = tmp_path_factory.mktemp("vectors")
    with zipfile.ZipFile(bindings.build_wheel(CRATE / "tests" / "taped", folder)) as wheel:
        (name,) = (name for name in wheel.namelist() if name.endswith(".so"))
        path = wheel.extract(name, folder)
    loader = importlib.machinery.ExtensionFileLoader("taped._native", path)
    spec = importlib.util.spec_from_file_location("taped._native", path, loader=loader)
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module
