"""What `doctor` says of the network: of every finding in words, and of real routers the truth."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import msgspec
import pytest

from node.api import network_shapes as ns
from node.api import operations as op
from node.api import shapes as s
from node.cli.network_checks import network_checks
from simulation.processes.namespace import reason_against_namespaces
from simulation.processes.nat.behaviour import (
    ADDRESS_RESTRICTED,
    FIREWALL,
    FULL_CONE,
    PORT_RESTRICTED,
    SYMMETRIC,
)
from simulation.processes.nat.internet import Host, Internet
from simulation.processes.nat.port_control import PROGRAMS, PortControl
from simulation.processes.nat.world import PORT, node_at
from simulation.processes.node_process import NodeProcess, RelayProcess
from telemetry.checks import Check
from transport.nat import NatFiltering, NatMapping

HOME = ns.Network(
    listen="0.0.0.0:7000",
    address="11.0.2.100:7000",
    observers=2,
    agree=2,
    tested=2,
    mapping="endpoint-independent",
    filtering="address-and-port-dependent",
    port_mapping="no-answer",
    mapped=None,
    mapped_by=None,
    reason="",
    hosts=["192.168.1.100"],
    answered=2,
    relays=2,
    lan_peers=0,
)
DHT = ns.Dht(True, False, 7, 0, 0, "private", "2026-11-22T00:00:00.000Z", 5)


def said(dht: ns.Dht = DHT, **changed: object) -> dict[str, Check]:
    found = msgspec.structs.replace(HOME, **changed)
    return {check.name: check for check in network_checks(found, dht)}


# --- words


@pytest.mark.parametrize("mapping", list(NatMapping))
@pytest.mark.parametrize("filtering", list(NatFiltering))
@pytest.mark.parametrize("port_mapping", ["off", "asking", "no-gateway", "no-answer", "refused"])
def test_every_finding_has_words(mapping: str, filtering: str, port_mapping: str) -> None:
    checks = said(mapping=mapping, filtering=filtering, port_mapping=port_mapping)
    assert list(checks) == ["address", "nat", "port mapping", "udp", "dht", "mdns"]
    assert all(check.ok and check.detail for check in checks.values())


def test_an_ordinary_home() -> None:
    checks = said()
    assert "port-restricted" in checks["nat"].detail
    assert "brought together" in checks["nat"].detail
    assert "UDP port 7000" in checks["nat"].fix
    assert "UPnP" in checks["nat"].fix
    assert "2 of 2" in checks["address"].detail


def test_the_same_advice_is_not_given_twice() -> None:
    checks = said()
    assert checks["port mapping"].fix == ""
    assert "UPnP" in said(mapping="unknown")["port mapping"].fix


def test_what_we_do_not_ask_the_router_for_is_asked_for_first() -> None:
    assert "--port-mapping" in said(port_mapping="off")["nat"].fix


def test_a_commands_own_node_says_nothing_of_who_reaches_the_lasting_one() -> None:
    checks = {check.name: check for check in network_checks(HOME, DHT, lasting=False)}
    assert "port mapping" not in checks
    assert "run" in checks["nat"].fix


def test_a_symmetric_nat_and_no_relay() -> None:
    nat = said(mapping="address-dependent", agree=1, relays=0)["nat"]
    assert "symmetric" in nat.detail
    assert "--relay" in nat.fix


def test_ipv6_is_offered_where_the_machine_has_it_and_we_do_not_listen_on_it() -> None:
    hosts = ["192.168.1.100", "2a00:1450::7"]
    assert "--listen [::]:7000" in said(hosts=hosts)["nat"].fix
    assert "IPv6" not in said(hosts=hosts, listen="[::]:7000")["nat"].fix
    assert "IPv6" not in said(hosts=["192.168.1.100", "fd00::7"])["nat"].fix


def test_whoever_is_reached_by_everybody_needs_nothing() -> None:
    checks = said(filtering="endpoint-independent")
    assert not any(check.fix for check in checks.values())


def test_a_port_that_the_router_forwards() -> None:
    mapping = said(port_mapping="mapped", mapped="11.0.2.100:7000", mapped_by="pcp")["port mapping"]
    assert (mapping.fix, "pcp" in mapping.detail) == ("", True)


@pytest.mark.parametrize("mapped", ["192.168.0.7:7000", "100.64.0.9:7000", "11.0.9.9:7000"])
def test_a_port_that_is_forwarded_behind_a_second_nat(mapped: str) -> None:
    mapping = said(port_mapping="mapped", mapped=mapped, mapped_by="upnp")["port mapping"]
    assert "second" in mapping.detail
    assert "outer router" in mapping.fix


def test_one_observer_tells_no_kind() -> None:
    nat = said(mapping="unknown", observers=1, agree=1)["nat"]
    assert "no address on the Internet" in nat.detail
    assert "--bootstrap" in nat.fix


def test_nobody_answers() -> None:
    udp = said(answered=0)["udp"]
    assert not udp.ok
    assert "UDP" in udp.fix
    assert said(answered=0, relays=0)["udp"].ok


def test_the_dht() -> None:
    assert "client only" in said()["dht"].detail
    assert "--bootstrap" in said(msgspec.structs.replace(DHT, contacts=0))["dht"].fix
    assert said(msgspec.structs.replace(DHT, on=False))["dht"].detail.startswith("off")


def test_the_lan() -> None:
    assert said(lan_peers=None)["mdns"].detail.startswith("off")
    assert "1 device of" in said(lan_peers=1)["mdns"].detail


# --- real routers


KINDS = {
    "public": ("none", "endpoint-independent"),
    "firewall": ("none", "address-and-port-dependent"),
    "full-cone": ("endpoint-independent", "endpoint-independent"),
    "address-restricted": ("endpoint-independent", "address-dependent"),
    "port-restricted": ("endpoint-independent", "address-and-port-dependent"),
    "symmetric": ("address-dependent", "address-and-port-dependent"),
    "carrier": ("endpoint-independent", "address-and-port-dependent"),
    "forwarded": ("endpoint-independent", "endpoint-independent"),
}
"""What each situation is."""

BEHAVIOURS = {
    "full-cone": FULL_CONE,
    "address-restricted": ADDRESS_RESTRICTED,
    "symmetric": SYMMETRIC,
}


class World:
    """Two relays, and a node in each situation that knows both of them."""

    def __init__(self, folder: Path, ends: ExitStack) -> None:
        self._internet = ends.enter_context(Internet())
        self._folder, self._ends = folder, ends
        self.nodes: dict[str, NodeProcess] = {}
        ends.callback(self._end)
        self.doors: dict[str, str] = {}
        ways_in: list[str] = []
        for number in range(2):
            home = folder / str(number)
            home.mkdir()
            relay = RelayProcess(home, self._in_a_network_of_its_own())
            ends.callback(relay.end)
            ways_in += ["--relay", relay.address]
        for kind in KINDS:  # not at once: a relay dials one of them back at a time
            self._start(self._situated(kind), kind, ways_in)

    def visit(self, *kinds: str) -> None:
        """Somebody of whom the nodes there have never heard comes to their doors."""
        doors = [f"{self.doors[kind]}:{PORT}" for kind in kinds]
        words = [word for door in doors for word in ("--bootstrap", door)]
        self._start(self._in_a_network_of_its_own(), "stranger", words)

    def _start(self, host: Host, name: str, options: Sequence[str]) -> None:
        node = self.nodes[name] = node_at(host, name, self._folder, *options)
        node.run()

    def _end(self) -> None:
        for node in self.nodes.values():
            node.end()

    def _in_a_network_of_its_own(self) -> Host:
        return self._internet.host(self._internet.segment())

    def _situated(self, kind: str) -> Host:
        net = self._internet
        outside = net.segment()
        if kind in ("public", "firewall"):
            host = net.host(outside if kind == "public" else net.guarded(FIREWALL, outside))
            self.doors[kind] = host.address
            return host
        if kind == "carrier":
            outside = net.carrier(PORT_RESTRICTED, outside).segments[0]
        router = net.home(BEHAVIOURS.get(kind, PORT_RESTRICTED), outside)
        self.doors[kind] = router.address
        if kind == "forwarded":
            self._ends.enter_context(PortControl(router))
        return net.host(router.segments[0])


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    if reason := reason_against_namespaces([("nft", "nftables"), *PROGRAMS]):
        pytest.skip(reason)
    with ExitStack() as ends:
        world = World(tmp_path_factory.mktemp("world"), ends)
        for kind in ("full-cone", "address-restricted"):  # they map once something was sent
            looked(world, kind, "address-dependent", "endpoint-independent")
        world.visit("public", "full-cone", "address-restricted", "forwarded")
        yield world


def looked(world: World, kind: str, *filtering: str) -> ns.Network:
    """What the node there knows, as soon as it is that, or after a while."""
    deadline = time.monotonic() + 60  # who is refused a dial-back asks again after 30 s
    while True:
        found = world.nodes[kind].call(op.NETWORK, s.Nothing())
        known = found.observers >= 2 and found.mapping != "unknown"
        if (known and found.filtering in filtering) or time.monotonic() > deadline:
            return found
        time.sleep(0.1)


@pytest.mark.timeout(240)  # eleven processes start, on a machine that does other things as well
@pytest.mark.parametrize("kind", list(KINDS))
def test_each_kind_of_nat_is_named(world: World, kind: str) -> None:
    mapping, filtering = KINDS[kind]
    found = looked(world, kind, filtering)
    assert (found.mapping, found.filtering) == (mapping, filtering), found
    assert found.agree == (1 if kind == "symmetric" else found.observers)
    if kind not in ("symmetric", "carrier"):
        assert found.address == f"{world.doors[kind]}:{PORT}"


def test_a_router_that_forwards_makes_everybody_reach_us(world: World) -> None:
    found = looked(world, "forwarded", "endpoint-independent")
    assert (found.mapped, found.mapped_by) == (f"{world.doors['forwarded']}:{PORT}", "pcp")
    asked = world.nodes["forwarded"].begin("--json", "doctor")
    out, _ = asked.communicate(timeout=20)
    checks = {line["name"]: line for line in map(json.loads, out.splitlines())}
    assert asked.returncode == 0
    assert "forwards" in checks["port mapping"]["detail"]
    assert "everybody reaches you" in checks["nat"]["detail"]
    assert not checks["nat"]["fix"]
