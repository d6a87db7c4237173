"""Tests of other folders, to be run once more on something else."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any


def borrowed(module: Mapping[str, Any], without: Collection[str] = ()) -> dict[str, Any]:
    """The tests and fixtures of a module, by name. Raises KeyError for a test left out in vain."""
    found = {
        name: value
        for name, value in module.items()
        if name.startswith("test_") or type(value).__name__ == "FixtureFunctionDefinition"
    }
    for name in without:
        del found[name]
    return found
