"""Every byte that the documentation shows, and every link."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from schemas.error_codes import GROUPS
from tests.docs import error_tables, simulation_tables
from tests.docs.pages import (
    DOCS,
    broken_links,
    example_names,
    fixed,
    table_names,
    with_examples,
    with_tables,
)
from tests.docs.wire_examples import EXAMPLES, open_example_envelope, shown

PAGES = [*sorted(DOCS.rglob("*.md")), *sorted(DOCS.parent.glob("*.md"))]


def test_the_wire_format_shows_what_this_program_sends() -> None:
    page = (DOCS / "wire-format.md").read_text()
    assert example_names(page) == set(EXAMPLES)
    assert with_examples(page, shown) == page, "run `make docs`"


def test_the_envelope_of_the_page_opens() -> None:
    page = (DOCS / "wire-format.md").read_text()
    private, public, sealed = (
        fixed(page, f"envelope-{part}") for part in ("private", "public", "sealed")
    )
    assert open_example_envelope(private, public, sealed) == b"a parcel"


def test_the_tables_of_the_simulator_are_those_of_this_program() -> None:
    page = (DOCS / "simulation.md").read_text()
    assert table_names(page) == set(simulation_tables.TABLES)
    assert with_tables(page, simulation_tables.shown) == page, "run `make docs`"


def test_the_table_of_error_codes_is_the_relays() -> None:
    page = (DOCS / "relay-errors.md").read_text()
    assert table_names(page) == set(GROUPS)
    assert with_tables(page, error_tables.shown) == page, "run `make docs`"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS.parent)))
def test_no_link_leads_nowhere(page: Path) -> None:
    assert broken_links(page) == []


SCRIPTS = [
    pytest.param(script, id=f"{page.stem}-{number}")
    for page in PAGES
    for number, script in enumerate(re.findall(r"```sh\n(.*?)```", page.read_text(), re.DOTALL))
]


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_is_one_that_a_shell_reads(script: str) -> None:
    done = subprocess.run(["sh", "-n"], input=script, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
