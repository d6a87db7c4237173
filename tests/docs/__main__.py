"""`make docs`: writes the computed parts of the pages anew, then looks at every link."""

from __future__ import annotations

import sys

from tests.docs.pages import DOCS, broken_links, with_examples
from tests.docs.wire_examples import shown


def main() -> int:
    """1 when a link leads nowhere."""
    page = DOCS / "wire-format.md"
    page.write_text(with_examples(page.read_text(), shown))
    print(f"written: {page.relative_to(DOCS.parent)}")
    broken = 0
    for page in [*sorted(DOCS.rglob("*.md")), *sorted(DOCS.parent.glob("*.md"))]:
        for link in broken_links(page):
            print(f"{page.relative_to(DOCS.parent)}: nothing at {link}", file=sys.stderr)
            broken += 1
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
