"""Runs the real program on a UDP socket that loses, repeats, reorders, and now and then is cut.

python -m tests.soak.flaky (node|relay) ARGUMENT…
"""

from __future__ import annotations

import functools
import importlib
import random
import socket
import sys
import time
from collections.abc import Callable
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
        self._held: Callable[[], int] | None = None
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
        return self._send(len(data), functools.partial(super().sendto, bytes(data), *where))

    def sendmsg(self, buffers: Any, *more: Any) -> int:
        """As socket.sendmsg; always says that all was sent."""
        copies = [bytes(each) for each in buffers]
        return self._send(sum(map(len, copies)), functools.partial(super().sendmsg, copies, *more))

    def _send(self, size: int, send: Callable[[], int]) -> int:
        dice = self._dice.random()
        if self._cut() or dice < LOST:
            return size
        if dice < LOST + HELD_BACK and self._held is None:
            self._held = send
            return size
        sent = send()
        if dice > 1 - REPEATED:
            send()
        if self._held is not None:
            held, self._held = self._held, None
            held()
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
