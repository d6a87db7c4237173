"""Against miniupnpd, which many home routers run, on a router made of namespaces."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from simulation.processes.namespace import reason_against_namespaces
from simulation.processes.nat.behaviour import PORT_RESTRICTED
from simulation.processes.nat.internet import Host, Internet, Router
from simulation.processes.nat.port_control import PROGRAMS, PortControl

ROOT = Path(__file__).parents[3]
PROBE = """
import socket, sys
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.settimeout(float(sys.argv[3]))
sock.sendto(b"anybody?", (sys.argv[1], int(sys.argv[2])))
try:
    print(sock.recv(100).decode())
except OSError:
    print("silence")
"""


@pytest.fixture(scope="module")
def homes() -> Iterator[tuple[Router, Host, Host]]:
    """A home's router, a machine there, and a stranger's on the Internet."""
    if reason := reason_against_namespaces([("nft", "nftables"), *PROGRAMS]):
        pytest.skip(reason)
    with Internet() as net:
        router = net.home(PORT_RESTRICTED, net.segment())
        yield router, net.host(router.segments[0]), net.host(net.segment())


class Asking:
    """ask.py at a host."""

    def __init__(self, host: Host, only: str) -> None:
        self._process = subprocess.Popen(
            [*host.enter, sys.executable, "-m", "tests.transport.port_mapping.ask", only],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def told(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        said: dict[str, Any] = json.loads(self._process.stdout.readline())
        return said

    def end(self) -> None:
        self._process.communicate("")
        assert self._process.returncode == 0


@contextmanager
def asking(host: Host, only: str = "") -> Iterator[Asking]:
    found = Asking(host, only)
    try:
        yield found
    finally:
        found.end()


def strangers_answer(stranger: Host, router: Router, wait_s: float = 2.0) -> str:
    command = [sys.executable, "-S", "-c", PROBE, router.address, "7000", str(wait_s)]
    return stranger.namespace.run(*command).strip()


@pytest.mark.parametrize("protocol", ["pcp", "nat-pmp", "upnp"])
def test_a_stranger_reaches_us_while_the_port_is_mapped_and_no_longer(
    homes: tuple[Router, Host, Host], protocol: str
) -> None:
    router, host, stranger = homes
    with PortControl(router) as control:
        assert strangers_answer(stranger, router, 0.2) == "silence"
        with asking(host, protocol) as asked:
            told = asked.told()
            assert told == {"external": f"{router.address}:7000", "protocol": protocol}
            assert strangers_answer(stranger, router) == "anybody?"
        assert "dnat" not in control.mappings()


@pytest.mark.parametrize(("pcp", "protocol"), [(True, "pcp"), (False, "upnp")])
def test_the_best_that_the_router_speaks_is_taken(
    homes: tuple[Router, Host, Host], pcp: bool, protocol: str
) -> None:
    router, host, _ = homes
    with PortControl(router, pcp=pcp), asking(host) as asked:
        assert asked.told()["protocol"] == protocol


def test_a_router_that_restarts_is_asked_anew_at_once(homes: tuple[Router, Host, Host]) -> None:
    """Not half an hour later, when the mapping would have been renewed."""
    router, host, stranger = homes
    with PortControl(router) as control, asking(host, "pcp") as asked:
        asked.told()
        control.stop()
        assert strangers_answer(stranger, router, 0.2) == "silence"
        control.start()
        began = time.monotonic()
        assert asked.told()["external"] == f"{router.address}:7000"
        assert time.monotonic() - began < 10
        assert strangers_answer(stranger, router) == "anybody?"


def test_a_router_that_speaks_nothing(homes: tuple[Router, Host, Host]) -> None:
    _, host, _ = homes
    with asking(host) as asked:
        assert asked.told()["code"] == "no-answer"
