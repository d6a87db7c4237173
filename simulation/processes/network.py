"""A network of namespaces: each has one interface, and all frames pass through a switch here.

The kernel's own `netem` is not everywhere. A TAP device per namespace needs only `ip` and root, and
a switch that reads every frame can delay it, lose it and cut whom it likes off from whom, which
QUIC cannot tell from a real network. A namespace lives as long as a process in it, so nothing is
left behind.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import os
import random
import select
import subprocess
import threading
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

from simulation.processes.namespace import Namespace, reason_against_namespaces
from simulation.processes.tun import PACKET_BYTES, Layer, open_tun, reason_against_tun

_FRAMES_AT_ONCE: Final = 64
_HARDWARE: Final = bytes.fromhex("0200000000")  # and the port's number: locally administered
_NETWORK: Final = "10.77.0"
_MOST_PLACES: Final = 250
_HELD_BACK_S: Final = 0.02


def reason_against() -> str:
    """Why no such network can be made here, and what to do; empty where it can."""
    return reason_against_namespaces() or reason_against_tun()


@dataclass(frozen=True, slots=True)
class Place:
    """A namespace with its address; `enter` before a command runs that command there."""

    number: int
    namespace: Namespace

    @property
    def address(self) -> str:
        return f"{_NETWORK}.{self.number}"

    @property
    def enter(self) -> tuple[str, ...]:
        return self.namespace.enter


@dataclass(frozen=True, slots=True)
class Trouble:
    """How frames fare: seconds from one place to another, and probabilities per frame."""

    latency_s: tuple[float, float] = (0.0, 0.0)
    loss: float = 0.0
    duplicates: float = 0.0
    reorder: float = 0.0  # held back until later ones have passed


class Network:
    """Places and the switch between them. A context manager; its end ends every namespace.

    What is cut is cut for frames under way as well.
    """

    def __init__(self, seed: int = 0) -> None:
        self.trouble = Trouble()
        self.carried = self.lost = self.refused = 0  # frames: handed over, by dice, cut
        self._dice = random.Random(seed)
        self._ports: dict[int, int] = {}  # place's number: its TAP
        self._cut: set[tuple[int, int]] = set()  # from, to
        self._namespaces: list[Namespace] = []
        self._under_way: list[tuple[float, int, int, int, bytes]] = []  # due, -, from, to, frame
        self._count = itertools.count()
        self._wake_read, self._wake_write = os.pipe()
        self._poll = select.epoll()
        self._poll.register(self._wake_read, select.EPOLLIN)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="switch", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._ended.set()
        os.write(self._wake_write, b"\0")
        self._thread.join()
        for namespace in self._namespaces:
            namespace.close()
        self._poll.close()
        for each in (*self._ports.values(), self._wake_read, self._wake_write):
            os.close(each)

    # --- places

    def add(self) -> Place:
        """A namespace on this network. Raises OSError, subprocess.CalledProcessError."""
        number = len(self._ports) + 1
        if number > _MOST_PLACES:
            raise ValueError(f"at most {_MOST_PLACES} places")
        namespace = Namespace()
        self._namespaces.append(namespace)
        place = Place(number, namespace)
        tap, name = open_tun(Layer.FRAMES)
        self._ports[number] = tap
        hardware = (_HARDWARE + bytes([number])).hex(":")
        command = f"ip link set {name} netns {namespace.pid} address {hardware} name eth0"
        subprocess.run(command.split(), check=True, capture_output=True)
        namespace.ip(f"addr add {place.address}/24 brd + dev eth0", "link set eth0 up")
        self._poll.register(tap, select.EPOLLIN)
        return place

    # --- faults

    def cut(self, source: Place, target: Place) -> None:
        """Nothing passes from one to the other any more; the way back is as it was."""
        self._cut.add((source.number, target.number))

    def part(self, sides: Sequence[Collection[Place]]) -> None:
        """Nothing passes from one side to another any more."""
        for here, there in itertools.permutations(sides, 2):
            for source, target in itertools.product(here, there):
                self.cut(source, target)

    def heal(self) -> None:
        """Nobody is cut off any more."""
        self._cut.clear()

    # --- the switch, in its own thread

    def _run(self) -> None:
        numbers = {}
        while not self._ended.is_set():
            for ready, _ in self._poll.poll(self._next_due()):
                if ready == self._wake_read:
                    continue
                if ready not in numbers:
                    numbers = {tap: number for number, tap in self._ports.items()}
                self._take(numbers[ready], ready)
            self._hand_over()

    def _next_due(self) -> float:
        if not self._under_way:
            return -1  # for ever
        return max(0.0, self._under_way[0][0] - time.monotonic())

    def _take(self, source: int, tap: int) -> None:
        for _ in range(_FRAMES_AT_ONCE):
            try:
                frame = os.read(tap, PACKET_BYTES)
            except BlockingIOError:
                return
            except OSError:  # the device went with its namespace
                self._poll.unregister(tap)
                return
            self._route(source, frame)

    def _route(self, source: int, frame: bytes) -> None:
        ports = list(self._ports)
        known = frame[:5] == _HARDWARE and frame[5] in ports
        for target in (frame[5],) if known else [each for each in ports if each != source]:
            self._send(source, target, frame)

    def _send(self, source: int, target: int, frame: bytes) -> None:
        trouble, dice = self.trouble, self._dice
        if dice.random() < trouble.loss:
            self.lost += 1
            return
        for _ in range(1 + (dice.random() < trouble.duplicates)):
            delay = dice.uniform(*trouble.latency_s)
            if dice.random() < trouble.reorder:
                delay += _HELD_BACK_S
            due = time.monotonic() + delay
            heapq.heappush(self._under_way, (due, next(self._count), source, target, frame))

    def _hand_over(self) -> None:
        now = time.monotonic()
        while self._under_way and self._under_way[0][0] <= now:
            _, _, source, target, frame = heapq.heappop(self._under_way)
            if (source, target) in self._cut:
                self.refused += 1
                continue
            with contextlib.suppress(OSError):  # a device that is full or gone loses it
                os.write(self._ports[target], frame)
                self.carried += 1
