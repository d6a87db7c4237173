"""What many runs amount to: figures per scenario, as a table, as JSON, as a page."""

from __future__ import annotations

import json
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.table import Table

from simulation.run import Result

HOUR_S = 3600.0


@dataclass(frozen=True, slots=True)
class Row:
    """One scenario at one size, over its seeds."""

    scenario: str
    nodes: int
    seeds: int
    violations: int
    engine_events: int
    node_hours: float  # virtual
    messages: int
    converge_p50_s: float | None
    converge_max_s: float | None
    events: dict[str, int]  # what users were told, by kind
    events_per_minute: float  # engine events, per core
    node_hours_per_second: float  # per core


def rows(results: Iterable[Result]) -> list[Row]:
    groups: dict[tuple[str, int], list[Result]] = defaultdict(list)
    for result in results:
        groups[result.plan.scenario, result.plan.nodes].append(result)
    return [_row(*key, group) for key, group in sorted(groups.items())]


def _row(scenario: str, nodes: int, results: Sequence[Result]) -> Row:
    cpu_s = sum(result.cpu_s for result in results) or 1e-9
    engine_events = sum(result.engine_events for result in results)
    node_hours = sum(result.virtual_s for result in results) * nodes / HOUR_S
    converged = [seconds for result in results for seconds in result.converged]
    told: Counter[str] = Counter()
    for result in results:
        told.update(result.events)
    return Row(
        scenario,
        nodes,
        len(results),
        sum(result.finding is not None for result in results),
        engine_events,
        node_hours,
        sum(result.messages for result in results),
        statistics.median(converged) if converged else None,
        max(converged, default=None),
        dict(sorted(told.items())),
        engine_events / cpu_s * 60,
        node_hours / cpu_s,
    )


def as_table(found: Iterable[Row]) -> Table:
    table = Table("scenario", "nodes", "seeds", "violations", "engine events", "node hours",
                  "messages", "one epoch p50 / max (s)", "events/min/core", "node h/s")  # fmt: skip
    for row in found:
        slowest = "-"
        if row.converge_p50_s is not None:
            slowest = f"{row.converge_p50_s:.2f} / {row.converge_max_s:.2f}"
        table.add_row(
            row.scenario,
            str(row.nodes),
            str(row.seeds),
            f"[bold red]{row.violations}" if row.violations else "0",
            f"{row.engine_events:,}",
            f"{row.node_hours:,.1f}",
            f"{row.messages:,}",
            slowest,
            f"{row.events_per_minute:,.0f}",
            f"{row.node_hours_per_second:,.1f}",
        )
    return table


def as_json(results: Sequence[Result]) -> dict[str, Any]:
    """Everything but the timelines; seeds that kept all invariants by their figures alone."""
    return {
        "version": version("quicnprotochat"),
        "scenarios": [
            {
                "scenario": row.scenario,
                "nodes": row.nodes,
                "seeds": row.seeds,
                "violations": row.violations,
                "engine_events": row.engine_events,
                "node_hours": round(row.node_hours, 3),
                "messages": row.messages,
                "converge_p50_s": row.converge_p50_s,
                "converge_max_s": row.converge_max_s,
                "events": row.events,
                "engine_events_per_minute_and_core": round(row.events_per_minute),
                "node_hours_per_cpu_second": round(row.node_hours_per_second, 3),
            }
            for row in rows(results)
        ],
        "runs": [result.as_json() for result in results],
    }


def write_report(path: Path, results: Sequence[Result]) -> None:
    """By the file's suffix: .json, .html, or text. Raises OSError."""
    if path.suffix == ".json":
        text = json.dumps(as_json(results), indent=1) + "\n"
    elif path.suffix == ".html":
        from simulation.report_html import as_html

        text = as_html(results)
    else:
        from rich.console import Console

        console = Console(width=160, no_color=True)
        with console.capture() as capture:
            console.print(as_table(rows(results)))
        text = capture.get()
    path.write_text(text, "utf-8")
