"""`run dht-churn`: both variants of a seed, beside the targets."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from simulation.dht.figures import Result, as_table
from simulation.dht.many import run_all
from simulation.dht.plan import FEWEST as FEWEST
from simulation.dht.plan import Plan, variants

NAME: Final = "dht-churn"
NODES: Final = 1_000
SUMMARY: Final = "Strangers keep each other's addresses, and come and go; some lie."
SHOWN_FAILURES: Final = 5


def play(
    nodes: int, seeds: Sequence[int], jobs: int, *, as_json: bool, report: Path | None
) -> bool:
    """Plays and tells both variants of each seed; whether all invariants and targets held."""
    plans = [plan for seed in seeds for plan in variants(nodes, seed)]
    results = _run(plans, jobs, quiet=as_json)
    missed = [word for result in results for word in _missed(result)]
    if report is not None:
        _write(report, results)
    if as_json:
        print(json.dumps(_told(results, missed)), flush=True)
    else:
        _show(Console(width=None if sys.stdout.isatty() else 160), results, missed)
    return not missed


def _run(plans: Sequence[Plan], jobs: int, *, quiet: bool) -> list[Result]:
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(
        *columns, console=console, disable=quiet or not console.is_terminal, transient=True
    ) as progress:
        tasks = [
            progress.add_task(f"{plan.variant}, seed {plan.seed}", total=1.0, start=False)
            for plan in plans
        ]

        def tell(place: int, part: float) -> None:
            progress.start_task(tasks[place])
            progress.update(tasks[place], completed=part)

        return list(run_all(plans, jobs, tell))


def _missed(result: Result) -> list[str]:
    """What of the invariants and the target did not hold, as sentences."""
    where = f"{result.plan.variant}, {result.plan.nodes} nodes, seed {result.plan.seed}"
    found = []
    if result.finding is not None:
        finding = result.finding
        found.append(f"{finding.invariant} at {finding.at_s:.1f} s: {finding.detail} ({where})")
    if not result.met:
        found.append(
            f"lookup-success is {result.success:.2%}, below {result.plan.target:.0%} ({where})"
        )
    return found


def _told(results: Sequence[Result], missed: Sequence[str]) -> dict[str, Any]:
    told: dict[str, Any] = {
        "version": version("quicnprotochat"),
        "scenario": NAME,
        "nodes": results[0].plan.nodes,
        "variants": [result.as_json() for result in results],
    }
    if missed:
        broken = any(result.finding is not None for result in results)
        told["error"] = {
            "code": "invariant-broken" if broken else "target-missed",
            "message": "; ".join(missed),
            "hint": "the same seed shows it again",
        }
    return told


def _show(console: Console, results: Sequence[Result], missed: Sequence[str]) -> None:
    console.print(as_table(results))
    for word in missed:
        console.print(f"[bold red]{word}[/bold red]", soft_wrap=True)
    for result in results:
        failed = [one for one in result.lookups if one.outcome != "found"]
        if missed and failed:
            console.print(f"{result.plan.variant}: {len(failed)} failed, among them")
        for one in failed[:SHOWN_FAILURES] if missed else ():
            console.print(
                f"  at {one.asked_at:.1f} s {one.reader} looked for {one.author} "
                f"(online for {one.author_online_s:.0f} s): {one.outcome} after "
                f"{one.messages} messages, {one.seconds:.1f} s",
                soft_wrap=True,
            )


def _write(path: Path, results: Sequence[Result]) -> None:
    """JSON by the suffix, else text. Raises OSError."""
    if path.suffix == ".json":
        missed = [word for result in results for word in _missed(result)]
        path.write_text(json.dumps(_told(results, missed), indent=1) + "\n", "utf-8")
        return
    console = Console(width=160, no_color=True)
    with console.capture() as capture:
        console.print(as_table(results))
    path.write_text(capture.get(), "utf-8")
