"""Commands about our relays: which they are, and moving from one to another."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem

from node.cli import completion
from node.cli.command import Commands
from node.cli.output import clean
from node.cli.state import State

if TYPE_CHECKING:
    from node.api.client import Client
    from node.api.relay_shapes import Relay

commands = Commands("Network")


def _ours(client: Client) -> list[str]:
    from node.api import operations as op
    from node.api.shapes import Nothing

    found = client.call(op.RELAYS, Nothing(), timeout_s=completion.ANSWER_S)
    return [each.relay for each in found]


def complete(ctx: click.Context, _: click.Parameter, begun: str) -> list[CompletionItem]:
    """Relays of the node that runs."""
    return completion.matching(begun, completion.ask(ctx, _ours))


@commands.add_group(
    "relays",
    example="quicnprotochat relays\n"
    "quicnprotochat relays add relay.example:7000#DEVICE_KEY --first\n"
    "quicnprotochat relays remove old.example:7000",
)
def relays(ctx: click.Context) -> None:
    """Your relays in order of preference; alone, they are shown."""
    if ctx.invoked_subcommand is None:
        _list(ctx.obj)


def _list(state: State) -> None:
    from node.api import operations as op
    from node.api.shapes import Nothing

    with state.session() as session:
        if not session.call(op.NODE, Nothing()).lasting:
            session.call(op.LOOK, Nothing())  # it has just begun to connect
        show(state, session.call(op.RELAYS, Nothing()))


@relays.command("list", example="quicnprotochat relays list --json")
@click.pass_obj
def relays_list(state: State) -> None:
    """Show your relays, and those that you left and that are read still."""
    _list(state)


@relays.command("add", example="quicnprotochat relays add relay.example:7000#DEVICE_KEY --first")
@click.argument("relays", nargs=-1, required=True, metavar="RELAY...")
@click.option("--first", is_flag=True, help="Before those you have, not behind them.")
@click.pass_obj
def relays_add(state: State, relays: tuple[str, ...], first: bool) -> None:
    """Add a RELAY, HOST:PORT#DEVICE_KEY; your contacts are told."""
    from node.api import operations as op
    from node.api.relay_shapes import ChangeRelays

    with state.session() as session:
        show(state, session.call(op.CHANGE_RELAYS, ChangeRelays(list(relays), first=first)))


@relays.command("remove", example="quicnprotochat relays remove old.example:7000")
@click.argument("relays", nargs=-1, required=True, metavar="RELAY...", shell_complete=complete)
@click.option("--now", is_flag=True, help="Do not read it any more, whatever lies there.")
@click.pass_obj
def relays_remove(state: State, relays: tuple[str, ...], now: bool) -> None:
    """Leave a RELAY: HOST:PORT, or the first digits of its key.

    It is read until it is empty and each of your contacts knows that you left, or 30 days.
    """
    from node.api import operations as op
    from node.api.relay_shapes import ChangeRelays

    with state.session() as session:
        change = ChangeRelays(drop=list(relays), at_once=now)
        show(state, session.call(op.CHANGE_RELAYS, change))


@relays.command(
    "set",
    example="quicnprotochat relays set new.example:7000#DEVICE_KEY second.example:7000#DEVICE_KEY",
)
@click.argument("relays", nargs=-1, required=True, metavar="RELAY...")
@click.pass_obj
def relays_set(state: State, relays: tuple[str, ...]) -> None:
    """Move to these relays, in this order; the others are left as by `relays remove`."""
    from node.api import operations as op
    from node.api.relay_shapes import SetRelays
    from node.api.shapes import Nothing

    with state.session() as session:
        session.call(op.SET_RELAYS, SetRelays(list(relays)))
        show(state, session.call(op.RELAYS, Nothing()))


def show(state: State, rows: list[Relay]) -> None:
    state.out.listing(
        [row.to_json() for row in rows],
        ("", "RELAY", "STATE"),
        (("left" if row.order is None else row.order, row.relay, _state(row)) for row in rows),
        empty="no relay; name one with `quicnprotochat relays add HOST:PORT#DEVICE_KEY`",
    )


def _state(row: Relay) -> str:
    words = row.state if row.reason is None else f"{row.state} ({clean(row.reason)})"
    if row.refused_since is not None:
        words += f", your mailbox was full at {row.refused_since}"
    if row.read_until is not None:
        words += f", read until {row.read_until[:10]} at the latest"
    return words
