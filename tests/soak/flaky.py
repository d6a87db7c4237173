"""Runs the real program on a UDP socket that loses, repeats, reorders, and now and then is cut.

python -m tests.soak.flaky (node|relay) ARGUMENT…
"""

from __future__ import annotations

import importlib
import random
import socket
import sys
import time
from typing import Any

LOST = 0.03
REPEATED = 0.01
HELD_BACK = 0.03  # leaves after the next datagram
GOOD_S = 25.0  # between two cuts, on average
CUT_S = (0.5, 4.0)


class FlakySocket(socket.socket):
    """Loopback is perfect; this is what is not."""

    def __init__(self, bound: socket.socket) -> None:
        family, kind = bound.family, bound.type
        super().__init__(family, kind, fileno=bound.detach())
        self._dice = random.Random()
        self._held: tuple[Any, ...] | None = None
        self._next_cut = time.monotonic() + self._dice.expovariate(1 / GOOD_S)
        self._cut_ends = 0.0

    def _cut(self) -> bool:
        now = time.monotonic()
        if now >= self._next_cut:
            self._cut_ends = now + self._dice.uniform(*CUT_S)
            self._next_cut = self._cut_ends + self._dice.expovariate(1 / GOOD_S)
        return now < self._cut_ends

    def sendto(self, data: Any, *where: Any) -> int:
        """As socket.sendto; always says that all was sent."""
        dice = self._dice.random()
        if self._cut() or dice < LOST:
            return len(data)
        if dice < LOST + HELD_BACK and self._held is None:
            self._held = (bytes(data), *where)
            return len(data)
        sent = super().sendto(data, *where)
        if dice > 1 - REPEATED:
            super().sendto(data, *where)
        if self._held is not None:
            held, self._held = self._held, None
            super().sendto(*held)
        return sent


def make_flaky() -> None:
    """From now on whatever this process binds is flaky."""
    endpoint: Any = importlib.import_module("transport.endpoint")
    bind = endpoint.bind_udp
    endpoint.bind_udp = lambda *args: FlakySocket(bind(*args))


def main() -> None:
    """Patch the one place that binds, then be the program."""
    program, *arguments = sys.argv[1:]
    make_flaky()
    if program == "node":
        from node.cli.main import main as node_main

        sys.exit(node_main(arguments))
    from relay.main import main as relay_main

    relay_main(arguments)


if __name__ == "__main__":
    main()
