"""The blocks of a page that are computed: `<!-- example: NAME -->` and the fence that follows, and
`<!-- table: NAME -->` and the table that follows."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Final

DOCS: Final = Path(__file__).parents[2] / "docs"
_EXAMPLE: Final = re.compile(r"<!-- example: ([a-z0-9-]+) -->\n(?:```\w*\n.*?\n```\n)?", re.DOTALL)
_TABLE: Final = re.compile(r"<!-- table: ([a-z0-9-]+) -->\n(?:\|.*\n)*")
_FIXED: Final = re.compile(r"<!-- fixed: ([a-z0-9-]+) -->\n```\w*\n(.*?)\n```\n", re.DOTALL)
_LINK: Final = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")


def with_examples(page: str, shown: Callable[[str], str]) -> str:
    """The page with every example block written anew."""

    def block(match: re.Match[str]) -> str:
        name = match.group(1)
        return f"<!-- example: {name} -->\n```text\n{shown(name)}\n```\n"

    return _EXAMPLE.sub(block, page)


def with_tables(page: str, shown: Callable[[str], str]) -> str:
    """The page with every computed table written anew."""
    return _TABLE.sub(lambda m: f"<!-- table: {m.group(1)} -->\n{shown(m.group(1))}\n", page)


def table_names(page: str) -> set[str]:
    return set(_TABLE.findall(page))


def example_names(page: str) -> set[str]:
    return set(_EXAMPLE.findall(page))


def fixed(page: str, name: str) -> str:
    """A fixed block's text without line ends. Raises KeyError."""
    blocks: dict[str, str] = dict(_FIXED.findall(page))
    return blocks[name].replace("\n", "")


def broken_links(page: Path) -> list[str]:
    """Relative links of a page that lead nowhere."""
    links = _LINK.findall(page.read_text())
    return [
        link
        for link in links
        if "://" not in link
        and not link.startswith("mailto:")
        and not (page.parent / link).exists()
    ]
