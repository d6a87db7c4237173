"""Commands about the DHT: how this node stands in it, and a lookup as it runs."""

from __future__ import annotations

import secrets
import threading
from typing import TYPE_CHECKING, Any

import click

from node.cli import completion
from node.cli.command import Commands
from node.cli.reach import PATH_COLUMNS, path_cells
from node.cli.state import State

if TYPE_CHECKING:
    from node.api.network_shapes import Path
    from node.api.session import Session
    from node.cli.lookup_tree import LookupTree

commands = Commands("Network")

_EVENT = "dht-lookup"
_READY_S = 20.0  # for the stream of events to begin; then the lookup runs unseen


@commands.add_group(
    "dht", example="quicnprotochat dht status\nquicnprotochat dht lookup Bob --json"
)
def dht(ctx: click.Context) -> None:
    """How this node stands in the DHT; alone, it is shown."""
    if ctx.invoked_subcommand is None:
        _status(ctx.obj)


@dht.command("status", example="quicnprotochat dht status")
@click.pass_obj
def status(state: State) -> None:
    """Show whom this node knows there, whether others may ask it, and what is published."""
    _status(state)


def _status(state: State) -> None:
    from node.api import operations as op
    from node.api.shapes import Nothing

    with state.session() as session:
        found = session.call(op.DHT, Nothing())
    state.out.record(
        found.to_json(),
        [
            ("part", ("server" if found.server else "client only") if found.on else "none"),
            ("contacts", found.contacts),
            ("asked by", found.askers),
            ("values kept", found.values_kept),
            ("visibility", found.visibility),
            ("published until", found.published_until or "not published"),
            ("kept by", found.kept_by),
        ],
    )


@dht.command("lookup", example="quicnprotochat dht lookup Bob")
@click.argument("key", shell_complete=completion.people)
@click.pass_obj
def lookup(state: State, key: str) -> None:
    """Ask the DHT where the devices of KEY (a person or a device) are, and show how it goes."""
    with state.session() as session:
        rows = _watched(session, key) if state.out.lively else _looked_up(session, key, "")
    state.out.listing(
        [row.to_json() for row in rows],
        PATH_COLUMNS,
        (path_cells(row) for row in rows),
        empty="they say that only a relay reaches them",
    )


def _looked_up(session: Session, key: str, token: str) -> list[Path]:
    from node.api import operations as op
    from node.api.network_shapes import DhtLookup

    return session.call(op.DHT_LOOKUP, DhtLookup(key, token))


def _watched(session: Session, key: str) -> list[Path]:
    """With the tree of the lookup on the terminal, which stays there."""
    from node.api.session import Following
    from node.cli.lookup_tree import LookupTree

    token = secrets.token_hex(8)
    subscribed, following = threading.Event(), Following()
    with LookupTree(key) as tree:
        watcher = threading.Thread(
            target=_follow, args=(session, tree, token, subscribed, following), daemon=True
        )
        watcher.start()
        subscribed.wait(_READY_S)
        try:
            return _looked_up(session, key, token)
        finally:
            following.end()
            watcher.join()


def _follow(
    session: Session,
    tree: LookupTree,
    token: str,
    subscribed: threading.Event,
    following: Any,
) -> None:
    try:
        for event in session.events(following=following):
            if event["event"] == "subscribed":
                subscribed.set()
            elif event["event"] == _EVENT and event["lookup"] == token:
                tree.step(event)
    finally:
        subscribed.set()
