"""`python -m benchmarks [NAME…] [--quick] [--json | --markdown | --record]`: measure, and say
which targets are met. `--record` writes the tables (and plots) of the documentation anew."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, cast

from rich.console import Console
from rich.table import Table

from benchmarks.healing_plot import healing_plot
from benchmarks.markdown import current_commit, markdown_table, recorded_line, write_table
from benchmarks.report import Row, met_text, target_text

# name -> module with `rows(quick: bool) -> list[Row]`
BENCHMARKS: Final[dict[str, str]] = {
    "binding": "benchmarks.binding",
    "handshake": "benchmarks.handshake",
    "direct": "benchmarks.direct",
    "process": "benchmarks.process",
    "relay": "benchmarks.relay",
    "relay_idle": "benchmarks.relay_idle",
    "relay_stores": "benchmarks.relay_stores",
    "sealed_sender": "benchmarks.sealed_sender",
    "transport": "benchmarks.transport",
    "opaque": "benchmarks.opaque",
    "fork_choice": "benchmarks.fork_choice",
    "healing": "benchmarks.healing",
    "alternatives": "benchmarks.alternatives",
    "simulator": "benchmarks.simulator",
    "large_groups": "benchmarks.large_groups",
    "dht_churn": "benchmarks.dht_churn",
    "dht_real": "benchmarks.dht_real",
    "address_change": "benchmarks.address_change",
}
DOCS: Final = Path(__file__).parents[1] / "docs"
PAGES: Final = (DOCS / "performance.md", DOCS / "convergence.md")
PLOTS: Final[dict[str, tuple[Path, Callable[[Sequence[Row]], str]]]] = {
    "healing": (DOCS / "convergence-healing.svg", healing_plot)
}


def _rows(name: str, quick: bool) -> list[Row]:
    module = importlib.import_module(BENCHMARKS[name])
    return cast("list[Row]", module.rows(quick))


def _table(name: str, rows: list[Row]) -> Table:
    table = Table("what", "value", "reference", "ratio", "target", "", "note", title=name)
    for row in rows:
        table.add_row(
            row.what,
            f"{row.value:,.4g} {row.unit}",
            "" if row.beside is None else f"{row.beside:,.4g} {row.unit} ({row.reference})",
            "" if row.ratio is None else f"{row.ratio:.3g}x",
            target_text(row),
            met_text(row),
            row.note,
        )
    return table


def main() -> int:
    """0 when all ran; a missed target is a line in the report, not a failure: machines differ."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(BENCHMARKS))
    parser.add_argument("--quick", action="store_true", help="seconds, not minutes; rough")
    output = parser.add_mutually_exclusive_group()
    output.add_argument("--json", action="store_true", help="one JSON object per row")
    output.add_argument("--markdown", action="store_true", help="the tables as Markdown")
    output.add_argument(
        "--record", action="store_true", help="also write the tables into the documentation"
    )
    arguments = parser.parse_args()
    unknown = sorted(set(arguments.names) - set(BENCHMARKS))
    if unknown:
        parser.error(f"no benchmark {', '.join(unknown)}; there are: {', '.join(BENCHMARKS)}")
    console = Console()
    commit = current_commit()  # before a recorded table changes a file
    for name in arguments.names or BENCHMARKS:
        print(f"{name} …", file=sys.stderr, flush=True)
        rows = _rows(name, arguments.quick)
        if arguments.json:
            for row in rows:
                print(json.dumps({"benchmark": name, **row.to_json()}))
        elif arguments.markdown:
            print(markdown_table(rows))
        else:
            console.print(_table(name, rows))
        if arguments.record:  # at once: a later benchmark that fails takes none with it
            told = f"{recorded_line(name, commit, quick=arguments.quick)}\n\n{markdown_table(rows)}"
            write_table(PAGES, name, told)
            if name in PLOTS:
                path, plot = PLOTS[name]
                path.write_text(plot(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
