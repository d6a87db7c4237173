"""A LAN of real nodes: each in a namespace of its own, all on one bridge; it takes root."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Self

from node.api import network_shapes as ns
from node.api import operations as op
from node.api import shapes as s
from node.demo.processes import NODE, Daemon, Person, environment
from node.home import create_home
from simulation.processes.namespace import Namespace
from simulation.processes.talk import LOOK_S, Controlled

GONE_S = 12.0  # a killed peer is gone within 2 s, by silence alone in 30; machines are busy
_ADAPTER = "eth0"


class Bridge:
    """A switch that people are plugged into. A context manager; its end ends every node."""

    def __init__(self, folder: Path, *, ipv4: bool = True) -> None:
        self.folder = folder
        self._ipv4 = ipv4
        self._ends = ExitStack()
        self._hub = self._ends.enter_context(Namespace())
        self._hub.ip("link add br0 type bridge mcast_snooping 0", "link set br0 up")
        self._plugged = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.close()

    def person(self, name: str) -> Neighbour:
        """An account, and a machine that is plugged in; no node runs yet."""
        namespace = self._ends.enter_context(Namespace())
        neighbour = Neighbour(name, self.folder, namespace)
        self._ends.callback(neighbour.end)
        self.plug(neighbour)
        return neighbour

    @contextmanager
    def off(self) -> Iterator[None]:
        """Nothing passes, and nobody's adapter goes down."""
        ports = range(1, self._plugged + 1)
        self._hub.ip(*(f"link set p{port} nomaster" for port in ports))
        try:
            yield
        finally:
            self._hub.ip(*(f"link set p{port} master br0" for port in ports))

    def plug(self, neighbour: Neighbour, adapter: str = _ADAPTER, *, network: int = 0) -> None:
        """Another cable; addresses as from DHCP, and IPv6 link-local ones as always."""
        self._plugged += 1
        port = f"p{self._plugged}"
        subprocess.run(
            f"ip link add {port} netns {self._hub.pid} type veth peer name {adapter}"
            f" netns {neighbour.namespace.pid}".split(),
            check=True,
            capture_output=True,
        )
        self._hub.ip(f"link set {port} master br0 up")
        if self._ipv4:
            neighbour.namespace.ip(
                f"addr add 10.{network}.0.{self._plugged}/24 brd + dev {adapter}"
            )
        neighbour.namespace.ip(f"link set {adapter} up")


class Neighbour(Person, Controlled):
    """Somebody whose node runs on a machine of its own; commands reach it by its home."""

    def __init__(self, name: str, folder: Path, namespace: Namespace) -> None:
        super().__init__(name, folder)
        self.namespace = namespace
        create_home(self.home, name)

    def run(self, *options: str) -> None:
        """With no option: as somebody who never read a manual."""
        self.node = Daemon(
            f"{self.name}'s node",
            [*self.namespace.enter, *NODE, "--home", str(self.home), "--json", "run", *options],
            self.home.with_suffix(".log"),
            environment(),
        )
        account = self.call(op.WHOAMI, s.Nothing())
        self.identity, self.device = account.identity, account.device

    def unplug(self, adapter: str = _ADAPTER) -> None:
        self.namespace.ip(f"link del {adapter}")

    def end(self) -> None:
        if self.node is not None:
            self.node.kill()

    def sees(self) -> dict[str, ns.Peer]:
        """What `peers` says, by name."""
        return {peer.name: peer for peer in self.call(op.PEERS, s.Nothing())}

    def wait_to_see(self, *names: str, within_s: float) -> float:
        """Seconds until exactly these are seen."""
        started = time.monotonic()
        while (seen := set(self.sees())) != set(names):
            waited = time.monotonic() - started
            assert waited < within_s, f"{self.name} sees {seen} after {waited:.1f} s"
            time.sleep(LOOK_S)
        return time.monotonic() - started
