"""Every byte that the documentation shows, and every link."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.pages import DOCS, broken_links, example_names, fixed, with_examples
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


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS.parent)))
def test_no_link_leads_nowhere(page: Path) -> None:
    assert broken_links(page) == []
