"""Results as Markdown, and the tables of the documentation that are written anew by them."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.report import Row, met_text, target_text

_HEAD = "| what | value | beside | ratio | target | | note |\n|---|---|---|---|---|---|---|\n"


def markdown_table(rows: list[Row]) -> str:
    """A table with a line per row; no line end at its end."""
    lines = []
    for row in rows:
        beside = "" if row.beside is None else f"{_number(row.beside, row.unit)} ({row.reference})"
        cells = (
            row.what,
            _number(row.value, row.unit),
            beside,
            "" if row.ratio is None else f"{row.ratio:.3g}x",
            target_text(row),
            met_text(row),
            row.note,
        )
        lines.append(f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |")
    return _HEAD + "\n".join(lines)


def current_commit() -> str:
    """The commit that is measured; says so when files under git differ from it."""
    commit = _git("rev-parse", "--short=9", "HEAD") or "unknown"
    return f"{commit} with changes" if _git("status", "--porcelain", "-uno") else commit


def _git(*arguments: str) -> str:
    ran = subprocess.run(
        ["git", *arguments],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    return ran.stdout.strip()


def recorded_line(name: str, commit: str, *, quick: bool) -> str:
    """By which command, when, from which commit, and on what kind of machine."""
    command = f'make bench BENCH="{name}{" --quick" if quick else ""}"'
    return (
        f"`{command}`, {datetime.now(UTC):%Y-%m-%d}, commit {commit}, "
        f"{os.cpu_count()} cores, CPython {platform.python_version()}"
        f"{'; a quick run, rough' if quick else ''}"
    )


def with_table(page: str, name: str, told: str) -> str:
    """The page with what stands between `<!-- table: NAME -->` and `<!-- end -->` replaced.

    Raises KeyError when the page has no such place, or more than one.
    """
    place = re.compile(rf"(<!-- table: {re.escape(name)} -->\n).*?(<!-- end -->)", re.DOTALL)
    written, count = place.subn(lambda match: f"{match[1]}{told}\n{match[2]}", page)
    if count != 1:
        raise KeyError(f"{count} places for the table {name}")
    return written


def write_table(pages: Sequence[Path], name: str, told: str) -> None:
    """Into the page that has its place. Raises KeyError when none has, or one has several."""
    mark = f"<!-- table: {name} -->"
    page = next((page for page in pages if mark in page.read_text()), pages[0])
    page.write_text(with_table(page.read_text(), name, told))


def _number(value: float, unit: str) -> str:
    return f"{value:,.4g} {unit}"
