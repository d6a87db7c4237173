"""The tables of docs/simulation.md that are written from the simulator itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from simulation.planted.catalogue import BUGS
from simulation.run import scenarios_of
from simulation.scenario import SCENARIOS


def _scenarios() -> str:
    rows = [f"| `{name}` | {found.nodes} | {found.summary} |"
            for name, found in sorted(SCENARIOS.items())]  # fmt: skip
    return _table("scenario | nodes | what happens", rows)


def _of_processes() -> str:
    rows = [f"| `{name}` | {found.nodes} | {found.summary} |"
            for name, found in sorted(scenarios_of("processes").items())]  # fmt: skip
    return _table("scenario | nodes | what happens", rows)


def _planted_bugs() -> str:
    rows = []
    for bug in BUGS.values():
        tier = "" if bug.tier == "world" else f" --tier {bug.tier}"
        files = ", ".join(f"`{module.replace('.', '/')}.py`" for module in bug.modules)
        rows.append(
            f"| `{bug.name}` | {bug.rule} Without it: {bug.harm} | {files} |"
            f" `{bug.scenario} --nodes {bug.nodes} --seed {bug.seed}{tier}`"
            f" | {' or '.join(bug.found_by)} |"
        )
    return _table("bug | the rule that it breaks | where | found in | by", rows)


def _table(heads: str, rows: list[str]) -> str:
    line = "|".join("---" for _ in heads.split("|"))
    return "\n".join([f"| {heads} |", f"|{line}|", *rows])


TABLES: Final[dict[str, Callable[[], str]]] = {
    "scenarios": _scenarios,
    "scenarios-of-processes": _of_processes,
    "planted-bugs": _planted_bugs,
}


def shown(name: str) -> str:
    return TABLES[name]()
