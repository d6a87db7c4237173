"""Commands about the ways to people: which there are, and which may be used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click
from click.shell_completion import CompletionItem

from node.cli import completion
from node.cli.command import Commands
from node.cli.output import clean, short
from node.cli.state import State
from schemas.path_policy import PathPolicy

if TYPE_CHECKING:
    from node.api.network_shapes import Path, Policy

commands = Commands("Network")

PATH_COLUMNS: Final = ("", "ADDRESS", "KIND", "SOURCE", "AGE", "TRIED", "RTT MS", "DEVICE")
_DEFAULT: Final = "default"  # as for everybody


@commands.add("paths", example="quicnprotochat paths Bob")
@click.argument("key", shell_complete=completion.people)
def paths(state: State, key: str) -> None:
    """Show all ways to the devices of KEY: tried now, which is in use, and why no better one."""
    from node.api import operations as op
    from node.api.shapes import ByPerson

    with state.session() as session:
        devices = session.call(op.PATHS, ByPerson(key))
    state.out.listing(
        [
            {**path.to_json(), "policy": each.policy, "sentence": each.sentence}
            for each in devices
            for path in each.paths
        ],
        PATH_COLUMNS,
        (path_cells(path) for each in devices for path in each.paths),
        empty="no way is known; ask for a new card, or see `doctor`",
    )
    for each in devices:
        state.out.note(f"{short(each.device)}: {clean(each.sentence)}")


def path_cells(path: Path) -> tuple[object, ...]:
    return (
        "in use" if path.in_use else "",
        path.address,
        path.kind,
        path.source,
        _age(path.age_s),
        "not yet" if path.tried is None else path.tried + _ago(path.tried_s),
        "-" if path.rtt_ms is None else f"{path.rtt_ms:.1f}",
        short(path.device),
    )


def _ago(seconds: float | None) -> str:
    return "" if seconds is None else f", {_age(seconds)} ago"


def _age(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def _people_or_policies(
    ctx: click.Context, parameter: click.Parameter, begun: str
) -> list[CompletionItem]:
    return [*_policies(ctx, parameter, begun), *completion.people(ctx, parameter, begun)]


def _policies(_: click.Context, __: click.Parameter, begun: str) -> list[CompletionItem]:
    words = (*(policy.value for policy in PathPolicy), _DEFAULT)
    return [CompletionItem(word) for word in words if word.startswith(begun)]


@commands.add(
    "policy",
    example="quicnprotochat policy\n"
    "quicnprotochat policy post-quantum-only\n"
    "quicnprotochat policy Bob relay-only",
)
@click.argument("key", required=False, shell_complete=_people_or_policies)
@click.argument("policy", required=False, shell_complete=_policies)
def choose(state: State, key: str | None, policy: str | None) -> None:
    """By which paths KEY, or everybody, is reached; with POLICY, choose.

    \b
    auto               the best path there is
    direct-only        no relay carries anything
    relay-only         they never see our address
    lan-only           only on networks that this machine is on
    post-quantum-only  only connections with X25519MLKEM768
    default            as for everybody
    """
    from node.api import operations as op
    from node.api.network_shapes import PoliciesOf, SetPolicy

    if key in set(PathPolicy) and policy is None:
        key, policy = None, key
    with state.session() as session:
        if policy is None:
            shown = session.call(op.POLICIES, PoliciesOf(key or ""))
        else:
            chosen = "" if policy == _DEFAULT else policy
            shown = [session.call(op.SET_POLICY, SetPolicy(key or "", chosen))]
    state.out.listing(
        [each.to_json() for each in shown],
        ("WHO", "POLICY"),
        ((_who(each), each.policy) for each in shown),
        empty="",
    )


def _who(policy: Policy) -> str:
    return "everybody" if policy.identity is None else policy.name or short(policy.identity)
