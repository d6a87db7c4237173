"""The table in words, in Markdown and in JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from rich.table import Table

from simulation.processes.nat.situations import SITUATIONS, TOGETHER
from simulation.processes.nat.table import Measured

_COLUMNS: Final = ("between", "theory", "reached", "first message", "direct after", "")


def as_json(row: Measured) -> dict[str, Any]:
    """Times in seconds, null for what did not come."""
    case = row.case
    return {
        "one": case.one,
        "other": case.other,
        "meeting": case.meeting.value,
        "theory": case.theory.value,
        "reached": row.reached.value,
        "kind": row.kind,
        "first_path": row.first,
        "first_s": None if row.first_s is None else round(row.first_s, 3),
        "direct_s": None if row.direct_s is None else round(row.direct_s, 3),
        "ok": row.ok,
        "explained": row.explained,
    }


def as_table(rows: Sequence[Measured]) -> Table:
    table = Table(*_COLUMNS)
    for row in rows:
        table.add_row(*_cells(row), style="" if row.ok else "bold red")
    return table


def summary(rows: Sequence[Measured]) -> str:
    """One line: how many are as theory says, and the slowest first message."""
    times = [row.first_s for row in rows if row.first_s is not None]
    slowest = f"; the slowest first message took {max(times):.2f} s" if times else ""
    same = sum(row.as_theory_says for row in rows)
    return f"{same} of {len(rows)} as theory says{slowest}"


def write_report(file: Path, rows: Sequence[Measured]) -> None:
    """JSON if the name ends so, else Markdown. Raises OSError."""
    if file.suffix == ".json":
        text = json.dumps([as_json(row) for row in rows], indent=1)
    else:
        text = _markdown(rows)
    file.write_text(text + "\n", encoding="utf-8")


def _markdown(rows: Sequence[Measured]) -> str:
    lines = [_line(_COLUMNS), _line(["---"] * len(_COLUMNS)), *(_line(_cells(row)) for row in rows)]
    named = {name for row in rows for name in (row.case.one, row.case.other)}
    words = {**{each.name: each.summary for each in SITUATIONS.values()}, **TOGETHER}
    lines += ["", *(f"- **{name}**: {said}" for name, said in words.items() if name in named)]
    return "\n".join([summary(rows), "", *lines])


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cells(row: Measured) -> list[str]:
    kind = f" ({row.kind})" if row.kind else ""
    late = "" if row.in_time else "TOO LATE"
    differs = "" if row.as_theory_says else row.explained or "DIFFERS"
    first = "none" if row.first_s is None else f"{_seconds(row.first_s)} {row.first}"
    return [
        row.case.name,
        row.case.theory.value,
        f"{row.reached.value}{kind}",
        first,
        "" if row.direct_s is None else _seconds(row.direct_s),
        "; ".join(filter(None, (differs, late))),
    ]


def _seconds(value: float) -> str:
    return f"{value:.2f} s"
