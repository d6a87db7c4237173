"""The tables of docs/relay-errors.md, written from the module that holds the codes."""

from __future__ import annotations

from schemas.error_codes import GROUPS, ErrorCode


def shown(name: str) -> str:
    """The table of a group; raises KeyError for one that there is not."""
    rows = [_row(each) for each in GROUPS[name]]
    return "\n".join(["| code | means | what to do |", "|---|---|---|", *rows])


def _row(each: ErrorCode) -> str:
    seed = f" ({each.seed})" if each.seed else ""
    return f"| `{each.code}`{seed} | {each.meaning} | {each.action} |"
