"""`doctor`: looks at everything that can stop a message, and says what to do."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import click

from node.cli import completion
from node.cli.command import Commands
from node.cli.output import clean
from node.cli.state import State
from schemas.errors import Blame, Fault

if TYPE_CHECKING:
    from node.api.session import Session
    from telemetry.checks import Check

commands = Commands("Network")


@commands.add("doctor", example="quicnprotochat doctor\nquicnprotochat doctor friends")
@click.argument("group", required=False, shell_complete=completion.groups)
def doctor(state: State, group: str | None) -> None:
    """Check the disk, port, clock, relays and versions; or say why GROUP waits.

    Exits 1 when a check fails.
    """
    from node.home import require_account

    require_account(state.home)
    wrong = _show(state, _group(state, group) if group is not None else _everything(state))
    if wrong:
        raise Fault(
            "unwell",
            f"{wrong} check{'s' if wrong > 1 else ''} failed",
            blame=Blame.ENVIRONMENT,
            hint="do what stands beside each",
        )


def _everything(state: State) -> Iterator[Check]:
    from node.api.configure import DEFAULT_LISTEN
    from node.cli import checks
    from node.encryption import is_encrypted

    yield from checks.home_checks(state.home, is_encrypted(state.home))
    listen = state.settings(lasting=True).listen or DEFAULT_LISTEN
    yield checks.port_check(listen, _running_at(state))
    yield checks.buffers_check()
    with state.session() as session:
        yield from _told("node", checks.node_checks(session))
        yield from _told("network", _network(session))


def _network(session: Session) -> Iterator[Check]:
    from node.api import operations as op
    from node.api.shapes import Nothing
    from node.cli.network_checks import network_checks

    lasting = session.call(op.NODE, Nothing()).lasting
    network = session.call(op.NETWORK, Nothing())
    yield from network_checks(network, session.call(op.DHT, Nothing()), lasting=lasting)


def _running_at(state: State) -> str | None:
    """Where the lasting node of the home listens; None while none runs."""
    from node.api import operations as op
    from node.api.client import Client
    from node.api.shapes import Nothing

    try:
        status = Client(state.home).call(op.NODE, Nothing(), timeout_s=2.0)
    except Fault:
        return None
    return status.listen if status.lasting else None


def _group(state: State, group: str) -> Iterator[Check]:
    from node.cli import checks

    with state.session() as session:
        yield from checks.group_checks(session, group)


def _told(name: str, found: Iterator[Check]) -> Iterator[Check]:
    """The checks; a node that cannot be started or asked is one of them."""
    from node.cli.checks import failed

    try:
        yield from found
    except Fault as fault:
        yield failed(name, fault)


def _show(state: State, found: Iterable[Check]) -> int:
    """Writes each out as it is made; how many failed."""
    wrong = 0
    for check in found:
        wrong += not check.ok
        text = f"{'ok  ' if check.ok else 'FAIL'}  {check.name}: {clean(check.detail)}"
        state.out.result(check.to_json(), text + (f"\n      → {check.fix}" if check.fix else ""))
    return wrong
