"""A UDP network in memory: sockets for `transport.Endpoint`, and what goes wrong between them."""

from __future__ import annotations

import asyncio
import errno
import math
import random
import socket
from collections import Counter, deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Final

from schemas.addresses import Address
from transport.address import SockAddr

Host = str  # an IPv4 address

BUFFER: Final = 4 * 1024 * 1024  # bytes that wait in a socket; more are dropped
MTU: Final = 1_472  # bytes of UDP payload that Ethernet carries whole


@dataclass(frozen=True, slots=True)
class Conditions:
    """What every datagram is exposed to: seconds, and probabilities from 0 to 1.

    Those that `reorder` strikes are overtaken by up to `reorder_s`; the others keep their order.
    """

    latency_s: tuple[float, float] = (0.02, 0.03)
    loss: float = 0.0
    duplicates: float = 0.0
    reorder: float = 0.0
    reorder_s: float = 0.1
    mtu: int = MTU


class Network:
    """Who reaches whom. `counters` says what was carried, and what was dropped and why."""

    def __init__(self, seed: int, conditions: Conditions = Conditions()) -> None:
        self.conditions = conditions
        self.counters: Counter[str] = Counter()
        self._random = random.Random(seed)
        self._sockets: dict[SockAddr, SimulatedSocket] = {}
        self._sides: dict[Host, int] = {}
        self._cut: set[tuple[Host, Host]] = set()
        self._hub: Host | None = None
        self._unplugged: set[Host] = set()
        self._last: dict[tuple[SockAddr, SockAddr], float] = {}  # arrival of the newest datagram

    def bind(self, listen: Address, _: int) -> SimulatedSocket:
        """As `transport.udp.bind_udp`, for one fixed address. Raises OSError when it is taken."""
        address = (listen.host, listen.port)
        if address in self._sockets:
            raise OSError(errno.EADDRINUSE, f"{listen} is taken")
        made = self._sockets[address] = SimulatedSocket(self, address)
        return made

    def partition(self, sides: Sequence[Collection[Host]]) -> None:
        """Hosts of different sides do not reach each other; those not named are one more side."""
        self._sides = {host: number for number, side in enumerate(sides, 1) for host in side}

    def cut(self, source: Host, target: Host) -> None:
        """One way only."""
        self._cut.add((source, target))

    def isolate(self, hub: Host) -> None:
        """Nobody reaches anybody but the hub, and the hub everybody."""
        self._hub = hub

    def heal(self) -> None:
        self._hub = None
        self._sides.clear()
        self._cut.clear()

    def unplug(self, host: Host) -> None:
        """Nothing leaves it, and nothing gets there."""
        self._unplugged.add(host)

    def plug_in(self, host: Host) -> None:
        self._unplugged.discard(host)

    def reaches(self, source: Host, target: Host) -> bool:
        return (
            self._sides.get(source, 0) == self._sides.get(target, 0)
            and (source, target) not in self._cut
            and self._hub in (None, source, target)
            and not self._unplugged & {source, target}
        )

    # Called by sockets

    def carry(self, data: bytes, source: SockAddr, target: SockAddr) -> None:
        now, dice = self.conditions, self._random
        if not self.reaches(source[0], target[0]):
            self.counters["unreachable"] += 1
        elif len(data) > now.mtu:
            self.counters["too-large"] += 1
        elif dice.random() < now.loss:
            self.counters["lost"] += 1
        else:
            self._send(data, source, target)
            if dice.random() < now.duplicates:
                self.counters["duplicated"] += 1
                self._send(data, source, target)

    def _send(self, data: bytes, source: SockAddr, target: SockAddr) -> None:
        loop = asyncio.get_running_loop()
        arrival = loop.time() + self._random.uniform(*self.conditions.latency_s)
        if self._random.random() < self.conditions.reorder:
            self.counters["reordered"] += 1
            arrival += self._random.uniform(0, self.conditions.reorder_s)
        else:
            # Strictly later: asyncio's timers of one instant fire in any order.
            arrival = max(arrival, math.nextafter(self._last.get((source, target), 0.0), math.inf))
            self._last[source, target] = arrival
        loop.call_at(arrival, self._arrive, data, source, target)

    def _arrive(self, data: bytes, source: SockAddr, target: SockAddr) -> None:
        found = self._sockets.get(target)
        if found is None or target[0] in self._unplugged:
            self.counters["nobody-there"] += 1
        elif not found.take(data, source):
            self.counters["buffer-full"] += 1
        else:
            self.counters["carried"] += 1
            self.counters["bytes"] += len(data)

    def closed(self, address: SockAddr) -> None:
        del self._sockets[address]


class SimulatedSocket:
    """A `transport.udp.DatagramSocket`; the loop's `add_reader` has to know `watch`."""

    family = socket.AF_INET

    def __init__(self, network: Network, address: SockAddr) -> None:
        self._network = network
        self._address = address
        self._waiting: deque[tuple[bytes, SockAddr]] = deque()
        self._bytes = 0
        self._on_readable: Callable[[], None] | None = None
        self._told = False
        self._closed = False

    def take(self, data: bytes, source: SockAddr) -> bool:
        """A datagram arrives; False when there is no room for it."""
        if self._bytes + len(data) > BUFFER:
            return False
        self._waiting.append((data, source))
        self._bytes += len(data)
        self._tell()
        return True

    def watch(self, on_readable: Callable[[], None] | None) -> None:
        """Called in each turn of the loop while something waits."""
        self._on_readable = on_readable
        self._tell()

    def _tell(self) -> None:
        if self._waiting and self._on_readable is not None and not self._told:
            self._told = True
            asyncio.get_running_loop().call_soon(self._readable)

    def _readable(self) -> None:
        self._told = False
        if self._on_readable is not None and self._waiting:
            self._on_readable()
            self._tell()

    def fileno(self) -> int:
        return -1  # nothing that the kernel knows

    def getsockname(self) -> SockAddr:
        return self._address

    def setsockopt(self, level: int, option: int, value: int, /) -> None:
        """Datagrams are never fragmented here, asked for or not."""

    def sendto(self, data: bytes, to: SockAddr, /) -> int:
        if not self._closed:
            self._network.carry(bytes(data), self._address, to)
        return len(data)

    def recvfrom(self, most: int, /) -> tuple[bytes, SockAddr]:
        if not self._waiting:
            raise BlockingIOError
        data, source = self._waiting.popleft()
        self._bytes -= len(data)
        return data[:most], source

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._network.closed(self._address)
