"""`make docs`: writes the computed parts of the pages anew, then looks at every link."""

from __future__ import annotations

import subprocess
import sys
from functools import partial

from tests.docs import error_tables, simulation_tables, wire_examples
from tests.docs.pages import DOCS, broken_links, with_examples, with_tables


def main() -> int:
    """1 when a link leads nowhere."""
    for page, written in (
        (DOCS / "wire-format.md", partial(with_examples, shown=wire_examples.shown)),
        (DOCS / "simulation.md", partial(with_tables, shown=simulation_tables.shown)),
        (DOCS / "relay-errors.md", partial(with_tables, shown=error_tables.shown)),
    ):
        page.write_text(written(page.read_text()))
        print(f"written: {page.relative_to(DOCS.parent)}")
    for name, of in (("commands.md", []), ("operations/commands.md", ["relay"])):
        made = subprocess.run(
            [sys.executable, "-m", "docs.commands", *of], stdout=subprocess.PIPE, check=True
        )
        (DOCS / name).write_bytes(made.stdout)
        print(f"written: docs/{name}")
    broken = 0
    for page in [*sorted(DOCS.rglob("*.md")), *sorted(DOCS.parent.glob("*.md"))]:
        for link in broken_links(page):
            print(f"{page.relative_to(DOCS.parent)}: nothing at {link}", file=sys.stderr)
            broken += 1
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
