"""The nodes of the table, all running: two of each situation, and whom they meet by."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from node.demo.processes import NODE
from simulation.processes.nat.behaviour import PORT_RESTRICTED
from simulation.processes.nat.behaviour import Mapping as NatMapping
from simulation.processes.nat.internet import Host, Internet
from simulation.processes.nat.situations import (
    SAME_CARRIER,
    SAME_LAN,
    SAME_NAT,
    SITUATIONS,
    TOGETHER,
    Case,
    Meeting,
    Situation,
)
from simulation.processes.node_process import NodeProcess, RelayProcess

PORT: Final = 7000
_STARTED_AT_ONCE: Final = 2

Pair = tuple[NodeProcess, NodeProcess]


@contextmanager
def opened(
    cases: Collection[Case], folder: Path, latency_s: float = 0.0
) -> Iterator[dict[Case, Pair]]:
    """The two nodes of each case, in one internet. They end with it.

    Raises StepFailed, OSError, subprocess.CalledProcessError.
    """
    with ExitStack() as ends:
        internet = ends.enter_context(Internet(latency_s))
        pairs: dict[Case, Pair] = {}
        for meeting in Meeting:
            mine = [case for case in cases if case.meeting is meeting]
            if mine:
                home = folder / meeting
                home.mkdir()
                pairs |= ends.enter_context(_world(internet, meeting, mine, home))
        yield pairs


@contextmanager
def _world(
    internet: Internet, meeting: Meeting, cases: Collection[Case], folder: Path
) -> Iterator[dict[Case, Pair]]:
    """All that meet in one way, and who is in the middle."""
    with ExitStack() as ends:
        middle = internet.host(internet.segment())
        common: NodeProcess | None = None
        if meeting is Meeting.RELAY:
            relay = RelayProcess(folder, middle)
            ends.callback(relay.end)
            options: tuple[str, ...] = ("--relay", relay.address)
        else:
            common = node_at(middle, "common", folder)
            ends.callback(common.end)
            common.run()
            options = ("--bootstrap", f"{middle.address}:{PORT}")
        nodes = {
            key: node_at(host, "-".join(key), folder, *options)
            for key, host in _hosts(internet, cases, middle).items()
        }
        # A node is killed when the thread that started it ends: the pool ends after the nodes.
        pool = ends.enter_context(ThreadPoolExecutor(_STARTED_AT_ONCE))
        for node in nodes.values():
            ends.callback(node.end)
        list(pool.map(NodeProcess.run, nodes.values()))
        if common is not None:
            common.knows(*nodes.values())
            for node in nodes.values():
                node.knows(common)
        yield {case: (nodes[case.one, "a"], nodes[case.other, "b"]) for case in cases}


def node_at(host: Host, name: str, folder: Path, *options: str) -> NodeProcess:
    """One that is not started, and listens where everybody does."""
    return NodeProcess(
        name,
        folder,
        listen=f"[::]:{PORT}",
        program=(*host.enter, *NODE),
        options=options,
    )


def _hosts(
    internet: Internet, cases: Collection[Case], middle: Host
) -> Mapping[tuple[str, str], Host]:
    """By situation, or way to be together, and side."""
    wanted = {key for case in cases for key in ((case.one, "a"), (case.other, "b"))}
    hosts = {
        (name, side): _situated(internet, SITUATIONS[name], middle)
        for name, side in sorted(wanted)
        if name in SITUATIONS
    }
    for name in TOGETHER:
        if (name, "a") in wanted:
            hosts[name, "a"], hosts[name, "b"] = _together(internet, name)
    return hosts


def _situated(internet: Internet, situation: Situation, middle: Host) -> Host:
    segment = internet.segment()
    peers = [middle.address] if situation.only_relay else []
    *outer, inner = situation.routers or (None,)
    for behaviour in outer:
        segment = internet.carrier(behaviour, segment).segments[0]
    if inner is None:
        return internet.host(segment)
    if inner.mapping is NatMapping.NONE:
        return internet.host(internet.guarded(inner, segment))
    return internet.host(internet.home(inner, segment, peers=peers).segments[0])


def _together(internet: Internet, name: str) -> tuple[Host, Host]:
    public = internet.segment()
    if name == SAME_CARRIER:
        provider = internet.carrier(PORT_RESTRICTED, public).segments[0]
        one, other = (internet.home(PORT_RESTRICTED, provider).segments[0] for _ in range(2))
    elif name == SAME_NAT:
        one, other = internet.home(PORT_RESTRICTED, public, segments=2).segments
    else:
        assert name == SAME_LAN
        one = other = internet.home(PORT_RESTRICTED, public).segments[0]
    return internet.host(one), internet.host(other)
