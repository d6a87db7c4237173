"""docs/hazards.md: every module, test and defence that it names is there."""

from __future__ import annotations

import ast
import functools
import re
import tomllib

import pytest

from tests.docs.pages import DOCS
from tests.hazards.defence import Defence
from tests.hazards.defences import DEFENCES

ROOT = DOCS.parent
PAGE = (DOCS / "hazards.md").read_text()
NAMED = re.findall(r"`([\w./-]+\.(?:py|rs))(?:::(\w+))?`", PAGE)
ROWS = [line for line in PAGE.splitlines() if line.startswith("| ") and "test |" not in line]


@functools.cache
def functions_in(path: str) -> frozenset[str]:
    """The names of all test functions, without running or importing anything."""
    return frozenset(
        node.name
        for node in ast.walk(ast.parse((ROOT / path).read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test_")
    )


def is_there(test: str) -> bool:
    """`test` is a pytest node id, with or without parameters; or a whole file."""
    path, _, name = test.partition("::")
    return (ROOT / path).is_file() and (not name or name.partition("[")[0] in functions_in(path))


def test_what_the_page_names_is_there() -> None:
    named = [f"{path}::{test}" if test else path for path, test in NAMED]
    assert len(named) > 150, "the page is not read as it is written"
    assert [each for each in named if not is_there(each)] == []


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[2:50])
def test_each_row_has_a_hazard_a_defence_and_an_attack(row: str) -> None:
    hazard, defence, attack = (cell.strip() for cell in row.strip("|").split("|"))
    assert hazard
    assert re.search(r"`\w[\w/-]+/\w+\.(py|rs)`", defence), "where is it?"
    assert re.search(r"`[\w/-]+\.py::test_\w+`", attack), "who attacks it?"


@pytest.mark.parametrize("each", DEFENCES, ids=lambda each: each.name)
def test_what_is_taken_out_is_in(each: Defence) -> None:
    """Else `python -m tests.hazards` would prove nothing any more: tell it the new place."""
    for removal in each.removals:
        assert (ROOT / removal.file).read_text().count(removal.text) == 1, removal.file
    assert [test for test in each.tests if not is_there(test)] == []


def test_every_verified_row_is_verified_by_a_test_that_it_names() -> None:
    taken_out = {test.partition("[")[0] for each in DEFENCES for test in each.tests}
    unproven = [row for row in ROWS if "✓" in row and not any(t in row for t in taken_out)]
    assert unproven == []


def test_libraries_are_pinned_where_their_inside_counts() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = dict(each.split(" ", 1) for each in project["dependencies"])
    for name in (
        "aioquic",
        "kademlia",
        "pycapnp",
    ):  # private names and measured behaviour: no next minor
        assert re.fullmatch(r">=(\d+)\.(\d+)\.\d+,<\1\.\d+", wanted[name]), name
    assert tuple(map(int, wanted["zeroconf"].removeprefix(">=").split("."))) >= (0, 150)
