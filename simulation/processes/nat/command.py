"""`quicnprotochat-simulate nat-table`: who reaches whom through which routers, beside theory."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Final, NoReturn

import click
from rich.console import Console

from node.demo.processes import StepFailed
from schemas.errors import Fault
from simulation.processes.nat.internet import reason_against
from simulation.processes.nat.report import as_json, as_table, summary, write_report
from simulation.processes.nat.situations import SITUATIONS, TOGETHER, chosen
from simulation.processes.nat.table import Measured, measure
from simulation.processes.tun import reason_against_tun

_WIDTH: Final = 120  # of the table where there is no terminal
_EXIT_FAILED: Final = 1


@click.command("nat-table")
@click.option("--only", metavar="A,B,…", default="", help="Only the pairs between these.")
@click.option(
    "--jobs", type=click.IntRange(1), default=1, show_default=True,
    help="Pairs at a time: sooner done, and each slower.",
)  # fmt: skip
@click.option(
    "--latency", "latency_ms", type=click.FloatRange(0, 1000), default=0, metavar="MS",
    help="How long packets take from network to network, one way.  [default: no time]",
)  # fmt: skip
@click.option(
    "--report",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the table: FILE.json, or Markdown.",
)
@click.option("--json", "as_json_", is_flag=True, help="JSON on stdout, a line for each pair.")
def nat_table(only: str, jobs: int, latency_ms: float, report: Path | None, as_json_: bool) -> None:
    """Who reaches whom through NATs and firewalls, directly or by relay, and how soon.

    Real nodes and a real relay in network namespaces, with nftables routers between them; needs
    root. It ends with 1 when a pair fares otherwise than theory says and no reason is known.

    \b
    Examples:
      sudo quicnprotochat-simulate nat-table
      sudo quicnprotochat-simulate nat-table --only public,symmetric --report table.md
    """
    names = [name for name in only.split(",") if name]
    if unknown := set(names) - set(SITUATIONS) - set(TOGETHER):
        known = ", ".join([*SITUATIONS, *TOGETHER])
        raise click.BadParameter(
            f"no situation {', '.join(sorted(unknown))}; there are {known}", param_hint="--only"
        )
    if report is not None and not report.absolute().parent.is_dir():
        raise click.BadParameter("no such folder", param_hint="--report")
    if reason := reason_against() or (reason_against_tun() if latency_ms else ""):
        raise click.UsageError(reason)
    rows: list[Measured] = []
    cases = chosen(names)
    try:
        for row in measure(cases, jobs, latency_ms / 1000):
            rows.append(row)
            if as_json_:
                print(json.dumps(as_json(row)), flush=True)
            else:
                click.echo(f"{len(rows)} of {len(cases)}: {row.case.name}", err=True)
    except (StepFailed, Fault, OSError, subprocess.CalledProcessError) as error:
        _fail("cannot-measure", str(error), "", as_json=as_json_)
    if report is not None:
        write_report(report, rows)
    if not as_json_:
        Console(width=None if sys.stdout.isatty() else _WIDTH).print(as_table(rows))
        click.echo(summary(rows))
    if not all(row.ok for row in rows):
        _fail("differs", summary(rows), "look at the rows that are not ok", as_json=as_json_)


def _fail(code: str, message: str, hint: str, *, as_json: bool) -> NoReturn:
    if as_json:
        print(json.dumps({"error": {"code": code, "message": message, "hint": hint}}), flush=True)
    else:
        click.echo(f"{message}\n  {hint}" if hint else message, err=True)
    sys.exit(_EXIT_FAILED)
