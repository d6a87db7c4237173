"""`quicnprotochat-simulate planted`: is every bug found that was put in on purpose?"""

from __future__ import annotations

import json
import os
import sys

import click
from rich.console import Console
from rich.table import Table

from simulation.planted.catalogue import BUGS
from simulation.planted.hunt import Verdict, hunt, unbroken

EXIT_FAILED = 1


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--jobs", type=click.IntRange(1), help="Processes at a time.  [default: all cores]")
@click.option("--json", "as_json", is_flag=True, help="JSON on stdout, nothing else.")
def planted(names: tuple[str, ...], jobs: int | None, as_json: bool) -> None:
    """Break one rule of the program at a time, and look whether a scenario notices.

    Ends with 1 when one is not found, or when the program as it is fails in the same run.

    \b
    Examples:
      quicnprotochat-simulate planted
      quicnprotochat-simulate planted tie-by-arrival
    """
    unknown = [name for name in names if name not in BUGS]
    if unknown:
        raise click.BadParameter(f"no bug {unknown[0]!r}; there are {', '.join(BUGS)}")
    bugs = [BUGS[name] for name in names or BUGS]
    at_a_time = jobs or os.cpu_count() or 1
    failing = [result for result in unbroken(bugs, at_a_time) if result.finding is not None]
    verdicts = list(hunt(bugs, at_a_time))
    missed = [verdict for verdict in verdicts if not verdict.found]
    if as_json:
        print(json.dumps(_told(verdicts)))
    else:
        Console(width=None if sys.stdout.isatty() else 200).print(_table(verdicts))
        click.echo(f"{len(verdicts)} bugs, {len(missed)} not found")
    for result in failing:
        plan = result.plan
        click.echo(f"without any bug: {plan.scenario}, {plan.nodes} nodes, seed {plan.seed}: "
                   f"{result.finding}", err=True)  # fmt: skip
    if missed or failing:
        sys.exit(EXIT_FAILED)


def _table(verdicts: list[Verdict]) -> Table:
    table = Table("bug", "module", "scenario", "nodes", "seed", "found by", "after (s)")
    for verdict in verdicts:
        bug = verdict.bug
        table.add_row(
            bug.name,
            ", ".join(bug.modules),
            bug.scenario,
            str(bug.nodes),
            str(bug.seed),
            verdict.invariant if verdict.found else f"[bold red]NOT FOUND[/] {verdict.detail}",
            "-" if verdict.at_s is None else f"{verdict.at_s:,.0f}",
        )
    return table


def _told(verdicts: list[Verdict]) -> list[dict[str, object]]:
    return [
        {
            "bug": verdict.bug.name,
            "rule": verdict.bug.rule,
            "modules": list(verdict.bug.modules),
            "scenario": verdict.bug.scenario,
            "nodes": verdict.bug.nodes,
            "seed": verdict.bug.seed,
            "found": verdict.found,
            "invariant": verdict.invariant,
            "detail": verdict.detail,
            "at_s": verdict.at_s,
        }
        for verdict in verdicts
    ]
