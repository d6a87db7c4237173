"""Who answers in the DHT: whoever strangers reach, and nobody behind a router that keeps them out.

Real nodes in real networks; it takes some seconds until others have dialled each of them back.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from node.api import network_shapes as ns
from node.api import operations as op
from node.api import shapes as s
from simulation.processes.nat.behaviour import FULL_CONE, PORT_RESTRICTED, SYMMETRIC
from simulation.processes.nat.internet import Host, Internet, reason_against
from simulation.processes.nat.world import PORT, node_at
from simulation.processes.node_process import NodeProcess

SETTLED_S = 30.0


@pytest.fixture
def internet() -> Iterator[Internet]:
    if reason := reason_against():
        pytest.skip(reason)
    with Internet() as internet:
        yield internet


def test_only_who_is_reached_is_a_server_and_all_are_found(
    internet: Internet, tmp_path: Path
) -> None:
    with ExitStack() as ends:
        begin: list[str] = []

        def run(name: str, host: Host) -> NodeProcess:
            node = node_at(host, name, tmp_path, "--no-port-mapping", *begin)
            ends.callback(node.end)
            node.run()
            return node

        for name in ("one", "two"):
            host = internet.host(internet.segment())
            run(name, host)
            begin += ["--bootstrap", f"{host.address}:{PORT}"]
        public = run("public", internet.host(internet.segment()))
        behind = {
            behaviour: run(
                f"behind{number}",
                internet.host(internet.home(behaviour, internet.segment()).segments[0]),
            )
            for number, behaviour in enumerate((FULL_CONE, PORT_RESTRICTED, SYMMETRIC))
        }
        settled(public, server=True)
        settled(behind[FULL_CONE], server=True)
        settled(behind[PORT_RESTRICTED], server=False)
        settled(behind[SYMMETRIC], server=False)
        for node in behind.values():
            card = node.call(op.WHOAMI, s.Nothing()).card
            public.call(op.ADD_CONTACT, s.AddContact(card))
            assert public.call(op.DHT_LOOKUP, ns.DhtLookup(node.identity))


def settled(node: NodeProcess, *, server: bool) -> None:
    """Waits until its record is kept and somebody said whether they reach it."""
    deadline = time.monotonic() + SETTLED_S
    while time.monotonic() < deadline:
        status = node.call(op.DHT, s.Nothing())
        tested = node.call(op.NETWORK, s.Nothing()).tested
        if tested and status.kept_by and status.server is server:
            return
        time.sleep(0.2)
    raise AssertionError(f"{node.name}: {status}, {tested} networks tried to reach it")
