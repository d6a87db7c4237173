"""The NATs are what they say: measured with plain datagrams, as RFC 5780 does."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from simulation.processes.namespace import Namespace
from simulation.processes.nat.behaviour import (
    ADDRESS_RESTRICTED,
    FIREWALL,
    FULL_CONE,
    PORT_RESTRICTED,
    SYMMETRIC,
    Behaviour,
    Filtering,
    Mapping,
    in_a_row,
)
from simulation.processes.nat.internet import Host, Internet, reason_against
from simulation.processes.tun import reason_against_tun

PROBE = Path(__file__).with_name("probe.py")


@contextmanager
def answering(*pairs: tuple[Host, Host]) -> Iterator[None]:
    with ExitStack() as ends:
        for here, other in pairs:
            process = subprocess.Popen(
                [*here.enter, sys.executable, "-S", str(PROBE), "serve", other.address],
                stdout=subprocess.PIPE,
                text=True,
            )
            ends.callback(process.communicate)
            ends.callback(process.kill)
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        yield


@pytest.fixture(scope="module")
def internet() -> Iterator[tuple[Internet, Host, Host]]:
    if reason := reason_against():
        pytest.skip(reason)
    with Internet() as found:
        one, other = (found.host(found.segment()) for _ in range(2))
        with answering((one, other), (other, one)):
            yield found, one, other


def ask(host: Host, one: Host, other: Host) -> dict[str, Any]:
    done = subprocess.run(
        [*host.enter, sys.executable, "-S", str(PROBE), "ask", one.address, other.address],
        capture_output=True,
        text=True,
        check=True,
    )
    said: dict[str, Any] = json.loads(done.stdout)
    return said


def seen(host: Host, one: Host, other: Host) -> tuple[Behaviour, list[list[object]]]:
    said = ask(host, one, other)
    return Behaviour(Mapping(said["mapping"]), Filtering(said["filtering"])), said["seen"]


@pytest.mark.parametrize("behaviour", [FULL_CONE, ADDRESS_RESTRICTED, PORT_RESTRICTED, SYMMETRIC])
def test_a_home_router_maps_and_filters_as_named(
    internet: tuple[Internet, Host, Host], behaviour: Behaviour
) -> None:
    net, one, other = internet
    home = net.home(behaviour, net.segment())
    found, addresses = seen(net.host(home.segments[0]), one, other)
    assert found == behaviour
    assert {address for address, _ in addresses} == {home.address}


def test_a_public_host_is_what_others_see(internet: tuple[Internet, Host, Host]) -> None:
    net, one, other = internet
    found, _ = seen(net.host(net.segment()), one, other)
    assert found == Behaviour(Mapping.NONE, Filtering.ENDPOINT_INDEPENDENT)  # the probe spoke first


def test_a_firewall_filters_and_does_not_translate(internet: tuple[Internet, Host, Host]) -> None:
    net, one, other = internet
    found, _ = seen(net.host(net.guarded(FIREWALL, net.segment())), one, other)
    assert found == FIREWALL


@pytest.mark.parametrize("inner", [FULL_CONE, SYMMETRIC])
def test_a_carrier_over_a_home_is_as_strict_as_both(
    internet: tuple[Internet, Host, Host], inner: Behaviour
) -> None:
    net, one, other = internet
    carrier = net.carrier(PORT_RESTRICTED, net.segment())
    home = net.home(inner, carrier.segments[0])
    found, addresses = seen(net.host(home.segments[0]), one, other)
    assert found == in_a_row([inner, PORT_RESTRICTED])
    assert {address for address, _ in addresses} == {carrier.address}


def test_a_strict_firewall_lets_nothing_else_through(
    internet: tuple[Internet, Host, Host],
) -> None:
    net, one, other = internet
    home = net.home(PORT_RESTRICTED, net.segment(), peers=[one.address])
    _, addresses = seen(net.host(home.segments[0]), one, other)
    assert [each is not None for each in addresses] == [True, True, False]


def test_a_new_address_outside_is_a_new_mapping(internet: tuple[Internet, Host, Host]) -> None:
    net, one, other = internet
    home = net.home(PORT_RESTRICTED, net.segment())
    host = net.host(home.segments[0])
    before = home.address
    assert seen(host, one, other)[1][0][0] == before
    home.renumber()
    assert seen(host, one, other)[1][0][0] == home.address != before


def test_a_machine_that_moves_is_somewhere_else(internet: tuple[Internet, Host, Host]) -> None:
    net, one, other = internet
    wifi, mobile = (net.home(PORT_RESTRICTED, net.segment()) for _ in range(2))
    host = net.host(wifi.segments[0])
    assert seen(host, one, other)[1][0][0] == wifi.address
    host.move(mobile.segments[0])
    assert seen(host, one, other)[1][0][0] == mobile.address
    host.renumber()
    assert seen(host, one, other)[1][0][0] == mobile.address


def test_packets_between_networks_take_their_time() -> None:
    if reason := reason_against() or reason_against_tun():
        pytest.skip(reason)
    with Internet(latency_s=0.05) as net:
        one, other = (net.host(net.segment()) for _ in range(2))
        home = net.home(PORT_RESTRICTED, net.segment())
        with answering((one, other), (other, one)):
            for host in (net.host(net.segment()), net.host(home.segments[0])):
                said = ask(host, one, other)
                assert None not in said["seen"]
                assert said["round_s"] >= 0.1


def test_nothing_runs_in_it_afterwards() -> None:
    if reason := reason_against():
        pytest.skip(reason)
    with Namespace() as namespace:
        process = subprocess.Popen([*namespace.enter, "sleep", "60"])
        process.kill()
        process.wait()
    with pytest.raises(subprocess.CalledProcessError):
        namespace.run("true")
