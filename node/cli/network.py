"""Commands about the network: who is there, and how far."""

from __future__ import annotations

import time
from contextlib import closing
from typing import TYPE_CHECKING

import click

from node.cli import completion
from node.cli.command import SECONDS, Commands
from node.cli.output import short
from node.cli.state import State
from schemas.errors import Unreachable

if TYPE_CHECKING:
    from node.api.network_shapes import Peer
    from node.api.session import Session

commands = Commands("Network")

_LISTEN_S = 2.5  # a node that just started hears announcements after about 1.2 s
_LOOK_S = 0.5
_OF_PEERS = frozenset(  # after these the list may be another
    {
        "subscribed",
        "heartbeat",
        "lagged",
        "peer-appeared",
        "peer-changed",
        "peer-gone",
        "path-changed",
        "contact-changed",
    }
)
_COLUMNS = ("NAME", "DEVICE", "SOURCE", "CONNECTED", "RTT MS", "KEY EXCHANGE", "ADDRESSES")


@commands.add("peers", example="quicnprotochat peers --timeout 3")
@click.option(
    "--timeout",
    type=SECONDS,
    metavar="S",
    help="Listen for S seconds. [default: 2.5, and 0 when a node runs already]",
)
@click.option("--watch", is_flag=True, help="Go on, and show every change, until Ctrl-C.")
def peers(state: State, timeout: float | None, watch: bool) -> None:
    """Show who is on the local network, and who is connected."""
    with state.session() as session:
        if watch:
            _watch(state, session, timeout)
        else:
            rows = _listen(session, timeout)
            state.out.listing(
                [row.to_json() for row in rows],
                _COLUMNS,
                (_cells(row) for row in rows),
                empty="nobody seen",
            )


def _listen(session: Session, timeout: float | None) -> list[Peer]:
    from node.api import operations as op
    from node.api.shapes import Nothing

    status = session.call(op.NODE, Nothing())  # which starts one to listen, if none runs
    if timeout is None:
        timeout = max(0.0, _LISTEN_S - (status.uptime_s if status.lasting else 0.0))
    deadline = time.monotonic() + timeout
    while (left := deadline - time.monotonic()) > 0:
        time.sleep(min(_LOOK_S, left))
    return session.call(op.PEERS, Nothing())


def _watch(state: State, session: Session, timeout: float | None) -> None:
    from node.api import operations as op
    from node.api.shapes import Nothing

    known: dict[str, Peer] = {}
    deadline = None if timeout is None else time.monotonic() + timeout
    with closing(session.events(deadline)) as events:
        for event in events:
            if event["event"] not in _OF_PEERS:
                continue
            now = {peer.device: peer for peer in session.call(op.PEERS, Nothing())}
            for device, peer in now.items():
                old = known.get(device)
                if old is None or _facts(old) != _facts(peer):
                    _tell(state, peer, gone=False)
            for device in known.keys() - now.keys():
                _tell(state, known[device], gone=True)
            known = now


def _facts(peer: Peer) -> tuple[object, ...]:
    """What is worth a line; a round trip changes all the time."""
    return (
        peer.name,
        peer.identity,
        peer.source,
        peer.connected,
        peer.key_exchange,
        tuple(peer.addresses),
    )


def _tell(state: State, peer: Peer, *, gone: bool) -> None:
    if state.json:
        left = {"connected": False, "path": None, "rtt_ms": None} if gone else {}
        state.out.emit({**peer.to_json(), **left, "gone": gone})
    else:
        state.out.listing(
            [{}],
            _COLUMNS,
            [("gone: " + peer.name if gone else peer.name, *_cells(peer)[1:])],
            empty="",
        )


def _cells(peer: Peer) -> tuple[object, ...]:
    return (
        peer.name or "-",
        short(peer.device),
        peer.source,
        "yes" if peer.connected else "no",
        "-" if peer.rtt_ms is None else f"{peer.rtt_ms:.1f}",
        peer.key_exchange or "-",
        " ".join(peer.addresses),
    )


@commands.add("ping", example="quicnprotochat ping Bob")
@click.argument("peer_or_relay", shell_complete=completion.people)
def ping(state: State, peer_or_relay: str) -> None:
    """Measure a round trip to a person, a device or a relay."""
    from node.api import operations as op
    from node.api.network_shapes import Ping

    with state.session() as session:
        pong = session.call(op.PING, Ping(peer_or_relay))
        state.out.result(
            pong.to_json(), f"{short(pong.device)} answered in {pong.rtt_ms:.1f} ms ({pong.path})"
        )


@commands.add("health", example="quicnprotochat health")
@click.argument("relay", required=False)
def health(state: State, relay: str | None) -> None:
    """Show whether RELAY is up. Without it: this node, and all of its relays."""
    from node.api import operations as op
    from node.api.relay_shapes import Health, HealthOf
    from node.api.shapes import Nothing

    with state.session() as session:
        relays = session.call(op.HEALTH, HealthOf(relay or ""))
        rows = list(relays)
        if relay is None:
            node = session.call(op.NODE, Nothing())
            rows.insert(0, Health("ok", node.version, "", int(node.uptime_s), None))
    state.out.listing(
        [{**row.to_json(), "relay": row.relay or None} for row in rows],
        ("STATUS", "VERSION", "UPTIME S", "WHERE", "REASON"),
        (
            (
                row.status,
                row.version or "-",
                "-" if row.uptime_s is None else row.uptime_s,
                row.relay or "this node",
                row.reason or "",
            )
            for row in rows
        ),
        empty="no relay is known",
    )
    if relays and all(row.status != "ok" for row in relays):
        raise Unreachable(
            "relay-unreachable", "no relay answered", hint="check the address and the network"
        )
