"""An internet of namespaces: segments with hosts, routers between them, and no way out of it.

Each public segment is a /24 of its own. All homes hand out the same private addresses from the
same one on, as routers of one make do.
"""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections.abc import Collection, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv4Network
from pathlib import Path
from typing import Final, Self

from simulation.processes.namespace import Namespace, reason_against_namespaces
from simulation.processes.nat.behaviour import Behaviour, rules

# Not one of the networks for documentation: those are not global, and no node would think so.
_PUBLIC: Final = IPv4Network("11.0.0.0/8")
_HOME: Final = IPv4Network("192.168.0.0/16")
_CARRIER: Final = IPv4Network("100.64.0.0/10")  # RFC 6598
_SEGMENT_PREFIX: Final = 24
_FIRST_HOST: Final = 100
_WAN: Final = "wan"
_ADAPTER: Final = "eth0"
_DETOUR: Final = 100  # a routing table
_ROOT: Final = Path(__file__).parents[3]


def reason_against() -> str:
    """Why no such network can be made here, and what to do; empty where it can."""
    return reason_against_namespaces([("nft", "nftables")])


class Segment:
    """A bridge in a router's namespace; who is attached gets the next address, as from DHCP."""

    def __init__(self, namespace: Namespace, name: str, network: IPv4Network) -> None:
        self._namespace = namespace
        self._name = name
        self._network = network
        self._hosts = itertools.count(_FIRST_HOST)
        self._ports = itertools.count()
        self.gateway = str(network[1])
        namespace.ip(
            f"link add {name} type bridge",
            f"addr add {self.gateway}/{network.prefixlen} dev {name}",
            f"link set {name} up",
        )

    def next_address(self) -> IPv4Interface:
        host = self._network[next(self._hosts)]
        return IPv4Interface((host, self._network.prefixlen))

    def attach(self, namespace: Namespace, adapter: str) -> IPv4Interface:
        """A cable from here to a new adapter there, which is the way to everywhere."""
        port = f"{self._name}.{next(self._ports)}"
        command = (
            f"ip link add {port} netns {self._namespace.pid} type veth "
            f"peer name {adapter} netns {namespace.pid}"
        )
        subprocess.run(command.split(), check=True, capture_output=True)
        self._namespace.ip(f"link set {port} master {self._name} up")
        address = self.next_address()
        namespace.ip(
            f"addr add {address} brd + dev {adapter}",
            f"link set {adapter} up",
            f"route add default via {self.gateway}",
        )
        return address


@dataclass
class Host:
    """Somebody's machine with its one adapter. `enter` before a command runs that there."""

    namespace: Namespace
    segment: Segment
    interface: IPv4Interface

    @property
    def address(self) -> str:
        return str(self.interface.ip)

    @property
    def enter(self) -> tuple[str, ...]:
        return self.namespace.enter

    def renumber(self) -> None:
        """Another address of the same segment; the one before it is gone."""
        self.interface = _renumber(self.namespace, _ADAPTER, self.segment, self.interface)

    def move(self, segment: Segment) -> None:
        """Unplugged here and plugged in there."""
        self.namespace.ip(f"link del {_ADAPTER}")
        self.interface = segment.attach(self.namespace, _ADAPTER)
        self.segment = segment


class Router:
    """Between a segment that it is attached to and segments of its own."""

    def __init__(
        self,
        namespace: Namespace,
        uplink: Segment,
        behaviour: Behaviour,
        networks: Sequence[IPv4Network],
        peers: Collection[str],
    ) -> None:
        self._namespace = namespace
        self._uplink = uplink
        self._interface = uplink.attach(namespace, _WAN)
        _forward(namespace)
        namespace.run("nft", "-f", "-", text=rules(behaviour, _WAN, peers))
        self.segments = [
            Segment(namespace, f"lan{number}", network) for number, network in enumerate(networks)
        ]

    @property
    def address(self) -> str:
        """Its address outside."""
        return str(self._interface.ip)

    @property
    def enter(self) -> tuple[str, ...]:
        """Before a command: it runs on the router."""
        return self._namespace.enter

    def run(self, *words: str, text: str | None = None) -> str:
        """As Namespace.run, on the router."""
        return self._namespace.run(*words, text=text)

    def renumber(self) -> None:
        """Another address outside, and with it every mapping is another one."""
        self._interface = _renumber(self._namespace, _WAN, self._uplink, self._interface)

    def forget(self) -> None:
        """Every mapping is gone, as when it restarts; the address stays."""
        # Masquerading ends with the link that it was for.
        self._namespace.ip(
            f"link set {_WAN} down",
            f"link set {_WAN} up",
            f"route add default via {self._uplink.gateway}",
        )


class Internet:
    """All of it. A context manager: its end ends every namespace."""

    def __init__(self, latency_s: float = 0.0) -> None:
        """`latency_s`: from one public segment to another. Raises what `Namespace` does."""
        self._ends = ExitStack()
        self._core = self._add()
        self._public = _PUBLIC.subnets(new_prefix=_SEGMENT_PREFIX)
        self._detour = latency_s > 0
        _forward(self._core)
        if self._detour:
            self._delay(latency_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.close()

    def segment(self) -> Segment:
        """A new public one."""
        network = next(self._public)
        name = f"net{network.network_address.packed[2]}"
        segment = Segment(self._core, name, network)
        if self._detour:
            self._core.ip(f"rule add iif {name} lookup {_DETOUR}")
        return segment

    def host(self, segment: Segment) -> Host:
        namespace = self._add()
        return Host(namespace, segment, segment.attach(namespace, _ADAPTER))

    def home(
        self,
        behaviour: Behaviour,
        uplink: Segment,
        *,
        segments: int = 1,
        peers: Collection[str] = (),
    ) -> Router:
        """A router with private segments, and what `peers` is to `behaviour.rules`."""
        networks = list(
            itertools.islice(_HOME.subnets(new_prefix=_SEGMENT_PREFIX), 1, 1 + segments)
        )
        return Router(self._add(), uplink, behaviour, networks, peers)

    def carrier(self, behaviour: Behaviour, uplink: Segment) -> Router:
        """A provider's router whose customers share a public address."""
        network = next(_CARRIER.subnets(new_prefix=_SEGMENT_PREFIX))
        return Router(self._add(), uplink, behaviour, [network], ())

    def guarded(self, behaviour: Behaviour, uplink: Segment) -> Segment:
        """A public segment behind a router that filters and does not translate."""
        network = next(self._public)
        router = Router(self._add(), uplink, behaviour, [network], ())
        self._core.ip(f"route add {network} via {router.address}")
        return router.segments[0]

    def _delay(self, latency_s: float) -> None:
        """What comes from a segment goes through a program that holds it back."""
        process = subprocess.Popen(
            [
                *self._core.enter,
                sys.executable,
                "-m",
                "simulation.processes.nat.delay",
                str(latency_s),
            ],
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": str(_ROOT)},
        )
        self._ends.callback(process.communicate)
        self._ends.callback(process.kill)
        assert process.stdout is not None
        device = process.stdout.readline().strip()
        self._core.ip(f"link set {device} up", f"route add default dev {device} table {_DETOUR}")

    def _add(self) -> Namespace:
        return self._ends.enter_context(Namespace())


def _forward(namespace: Namespace) -> None:
    namespace.run("sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")


def _renumber(
    namespace: Namespace, adapter: str, segment: Segment, old: IPv4Interface
) -> IPv4Interface:
    """The new address; the old one is gone first, as when a lease ends."""
    new = segment.next_address()
    namespace.ip(
        f"addr del {old} dev {adapter}",
        f"addr add {new} brd + dev {adapter}",
        f"route replace default via {segment.gateway}",
    )
    return new
