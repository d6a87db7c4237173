"""The command `quicnprotochat-simulate`: plays scenarios by seed, and replays what broke."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import click
from click.core import ParameterSource
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from node.engine.groups.fork_choice import RULES
from schemas.errors import Fault
from simulation.dht import command as dht
from simulation.many import run_all
from simulation.planted.command import planted
from simulation.processes.nat.command import nat_table
from simulation.processes.network import reason_against
from simulation.replay import read_replay, write_replay
from simulation.report import as_json, as_table, rows, write_report
from simulation.run import BEST_RULE, PROCESSES, TIERS, WORLD, Plan, Result, run, scenarios_of
from simulation.world.means import MODEL, NAMES, REAL

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130
ALL = "all"
SHOWN_VIOLATIONS = 5
LAST_LINES = 12

_json = click.option("--json", "as_json_", is_flag=True, help="JSON on stdout, nothing else.")
_tier = click.option(
    "--tier", type=click.Choice(list(TIERS)), default=WORLD, show_default=True,
    help="Engines on a model network; or whole nodes with real MLS and QUIC (`wire`): slower, and "
    "no two runs are the same; or real processes in network namespaces, as root (`processes`).",
)  # fmt: skip


class _Commands(click.Group):
    """Wrong usage is told as JSON, too, where --json was given."""

    def main(self, args: Sequence[str] | None = None, **extra: Any) -> Any:  # type: ignore[override]
        given = sys.argv[1:] if args is None else list(args)
        try:
            super().main(given, **(extra | {"standalone_mode": False}))
        except click.UsageError as error:
            if "--json" in given:
                _tell_json("usage", error.format_message(), "see --help")
            else:
                error.show()
            sys.exit(EXIT_USAGE)
        except click.ClickException as error:
            error.show()
            sys.exit(error.exit_code)
        except (click.Abort, KeyboardInterrupt):
            sys.exit(EXIT_INTERRUPTED)
        sys.exit(0)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="quicnprotochat", prog_name="quicnprotochat-simulate")
def main() -> None:
    """Many nodes in one deterministic simulation: real engines, virtual time, planned trouble.

    A seed decides everything, and repeats it event for event.

    \b
    Example:
      quicnprotochat-simulate run partition-and-heal --nodes 20 --seeds 0..200
    """


@main.command("list")
@_tier
@_json
def list_(tier: str, as_json_: bool) -> None:
    """The scenarios, and how many nodes each has by default.

    \b
    Example:
      quicnprotochat-simulate list
    """
    found = {name: (one.nodes, one.summary) for name, one in scenarios_of(tier).items()}
    if tier == WORLD:
        found[dht.NAME] = dht.NODES, dht.SUMMARY
    width = max(map(len, found))
    for name, (nodes, summary) in sorted(found.items()):
        if as_json_:
            print(json.dumps({"scenario": name, "nodes": nodes, "summary": summary}))
        else:
            click.echo(f"{name:{width}}  {nodes:>4} nodes  {summary}")


@main.command("run")
@click.argument("scenario")
@click.option("--nodes", type=click.IntRange(2), help="How many.  [default: the scenario's]")
@click.option("--seed", type=click.IntRange(0), help="One seed.  [default: 0]")
@click.option("--seeds", metavar="A..B", help="Seeds from A to B, B not among them.")
@click.option("--jobs", type=click.IntRange(1), help="Processes at a time.  [default: all cores]")
@click.option(
    "--report",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write a report: FILE.json, FILE.html, or text.",
)
@click.option(
    "--replays",
    type=click.Path(file_okay=False, exists=True, path_type=Path),
    default=Path(),
    help="Folder for replay files.  [default: here]",
)
@click.option(
    "--mls", type=click.Choice(NAMES), default=MODEL, show_default=True,
    help="The deterministic model of MLS, or the real one (its bytes differ each time).",
)  # fmt: skip
@click.option(
    "--rule", type=click.Choice(list(RULES)), default=BEST_RULE, show_default=True,
    help="Of fork choice: ours, or one that was tried before it.",
)  # fmt: skip
@_tier
@_json
def run_(
    scenario: str,
    nodes: int | None,
    seed: int | None,
    seeds: str | None,
    jobs: int | None,
    report: Path | None,
    replays: Path,
    mls: str,
    rule: str,
    tier: str,
    as_json_: bool,
) -> None:
    """Play SCENARIO (or `all`) with one seed or many; a violation writes a replay file, and ends
    with 1.

    \b
    Examples:
      quicnprotochat-simulate run quiet-group --seed 7
      quicnprotochat-simulate run all --seeds 0..100 --report report.html
      quicnprotochat-simulate run two-members --tier wire --seeds 0..10
    """
    if report is not None and not report.absolute().parent.is_dir():
        raise click.BadParameter("no such folder", param_hint="--report")
    if scenario == dht.NAME:
        _play_dht(nodes, _seeds(seed, seeds), jobs, report, as_json_=as_json_)
        return
    plans = _plans(scenario, nodes, _seeds(seed, seeds), mls if tier == WORLD else REAL, tier)
    if rule != BEST_RULE:
        if tier != WORLD:
            raise click.BadParameter(f"{tier} has our own rule only", param_hint="--rule")
        plans = [replace(plan, rule=rule) for plan in plans]
    results, interrupted = _play(plans, jobs or os.cpu_count() or 1, quiet=as_json_)
    results.sort(key=lambda result: (result.plan.scenario, result.plan.nodes, result.plan.seed))
    broken = [result for result in results if result.finding is not None]
    files = [str(write_replay(replays, result)) for result in broken]
    if report is not None and results:
        write_report(report, results)
    if as_json_:
        _print_json(results, files)
    else:
        _print(results, broken, files)
    if interrupted:
        sys.exit(EXIT_INTERRUPTED)
    if broken:
        sys.exit(EXIT_FAILED)


@main.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@_json
def replay(file: Path, as_json_: bool) -> None:
    """Play again what a replay FILE tells, and print the event log.

    \b
    Example:
      quicnprotochat-simulate replay replay-partition-and-heal-20-7.json
    """
    try:
        plan, digest = read_replay(file)
    except Fault as fault:
        _fail(fault, as_json_=as_json_)
    result = run(plan, print_lines=not as_json_)
    if as_json_:
        _print_json([result], [str(file)] if result.finding else [])
    else:
        _print_violation(Console(stderr=True), result)
        same = "the same event log" if result.digest == digest else "ANOTHER event log than then"
        click.echo(f"{same} ({result.digest})", err=True)
    if result.finding is not None:
        sys.exit(EXIT_FAILED)


# --- what to play


def _seeds(seed: int | None, seeds: str | None) -> range:
    if seeds is None:
        return range(seed or 0, (seed or 0) + 1)
    if seed is not None:
        raise click.UsageError("either --seed or --seeds")
    first, dots, last = seeds.partition("..")
    if not dots or not first.isdecimal() or not last.isdecimal() or int(first) >= int(last):
        raise click.BadParameter(f"{seeds!r} is not A..B with A < B", param_hint="--seeds")
    return range(int(first), int(last))


def _plans(name: str, nodes: int | None, seeds: range, mls: str, tier: str) -> list[Plan]:
    scenarios = scenarios_of(tier)
    if name != ALL and name not in scenarios:
        known = ", ".join(sorted(scenarios))
        raise click.BadParameter(f"no scenario {name!r}; there are {known}", param_hint="SCENARIO")
    if tier == PROCESSES and (reason := reason_against()):
        raise click.BadParameter(reason, param_hint="--tier")
    plans = []
    for found in [scenarios[name]] if name != ALL else scenarios.values():
        if nodes is not None and nodes < found.fewest:
            raise click.BadParameter(f"{found.name} takes {found.fewest}", param_hint="--nodes")
        missing = found.needs - TIERS[tier]
        if missing and name != ALL:
            lacks = ", ".join(sorted(missing))
            raise click.BadParameter(f"{name} needs {lacks}; {tier} has not", param_hint="--tier")
        if not missing and (name != ALL or found.quick):
            plans += [Plan(found.name, nodes or found.nodes, seed, mls, tier) for seed in seeds]
    return plans


def _play_dht(
    nodes: int | None, seeds: range, jobs: int | None, report: Path | None, *, as_json_: bool
) -> None:
    """`dht-churn` has nodes of the DHT alone, and two variants of each seed."""
    context = click.get_current_context()
    for name in ("tier", "mls", "rule", "replays"):
        if context.get_parameter_source(name) is not ParameterSource.DEFAULT:
            raise click.BadParameter(f"{dht.NAME} has none", param_hint=f"--{name}")
    if nodes is not None and nodes < dht.FEWEST:
        raise click.BadParameter(f"{dht.NAME} takes {dht.FEWEST}", param_hint="--nodes")
    count = jobs or os.cpu_count() or 1
    if not dht.play(nodes or dht.NODES, seeds, count, as_json=as_json_, report=report):
        sys.exit(EXIT_FAILED)


def _play(plans: list[Plan], jobs: int, *, quiet: bool) -> tuple[list[Result], bool]:
    """The results so far, and whether the user ended it."""
    results: list[Result] = []
    console = Console(stderr=True)
    broken = 0
    columns = (TextColumn("{task.description}"), MofNCompleteColumn(), TimeElapsedColumn())
    running = run_all(plans, jobs)
    with Progress(
        *columns, console=console, disable=quiet or not console.is_terminal, transient=True
    ) as progress:
        task = progress.add_task("seeds", total=len(plans))
        try:
            for result in running:
                results.append(result)
                broken += result.finding is not None
                said = f"seeds, [red]{broken} with a violation[/red]" if broken else "seeds"
                progress.update(task, advance=1, description=said)
        except KeyboardInterrupt:
            running.close()
            return results, True
    return results, False


# --- what to say


def _print(results: list[Result], broken: list[Result], files: list[str]) -> None:
    console = Console(width=None if sys.stdout.isatty() else 160)
    console.print(as_table(rows(results)))
    for result, file in list(zip(broken, files, strict=True))[:SHOWN_VIOLATIONS]:
        _print_violation(console, result)
        console.print(f"  quicnprotochat-simulate replay {file}", markup=False, soft_wrap=True)
    if len(broken) > SHOWN_VIOLATIONS:
        console.print(f"... and {len(broken) - SHOWN_VIOLATIONS} more")


def _print_violation(console: Console, result: Result) -> None:
    finding, plan = result.finding, result.plan
    if finding is None:
        return
    where = f"{plan.scenario}, {plan.nodes} nodes, seed {plan.seed}"
    console.print(f"[bold red]{finding.invariant}[/bold red] in {where} at {finding.at:.3f} s")
    console.print(f"  {finding.detail}", markup=False, soft_wrap=True)
    for line in finding.lines[-LAST_LINES:]:
        console.print(f"    {line}", markup=False, highlight=False, soft_wrap=True)


def _print_json(results: list[Result], files: list[str]) -> None:
    told: dict[str, Any] = as_json(results)
    if files:
        broken = sum(result.finding is not None for result in results)
        told["replays"] = files
        told["error"] = {
            "code": "invariant-broken",
            "message": f"{broken} of {len(results)} runs broke an invariant",
            "hint": f"quicnprotochat-simulate replay {files[0]}",
        }
    print(json.dumps(told), flush=True)


def _fail(fault: Fault, *, as_json_: bool) -> NoReturn:
    if as_json_:
        _tell_json(fault.code, str(fault), fault.hint)
    else:
        click.echo(f"{fault}\n  {fault.hint}" if fault.hint else str(fault), err=True)
    sys.exit(EXIT_FAILED)


def _tell_json(code: str, message: str, hint: str | None) -> None:
    print(json.dumps({"error": {"code": code, "message": message, "hint": hint}}), flush=True)


main.add_command(planted)
main.add_command(nat_table)

if __name__ == "__main__":
    main()
