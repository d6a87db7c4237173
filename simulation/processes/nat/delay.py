"""A wire that takes time: every packet that the kernel routes to a device comes back later.

python -m simulation.processes.nat.delay SECONDS

Makes the device, prints its name, and runs until it is killed.
"""

from __future__ import annotations

import contextlib
import os
import select
import sys
import time
from collections import deque

from simulation.processes.tun import PACKET_BYTES, Layer, open_tun


def run(seconds: float) -> None:
    """Packets keep their order: each takes the same time."""
    device, name = open_tun(Layer.PACKETS)
    print(name, flush=True)
    under_way: deque[tuple[float, bytes]] = deque()  # due, packet
    poll = select.epoll()
    poll.register(device, select.EPOLLIN)
    while True:
        poll.poll(max(0.0, under_way[0][0] - time.monotonic()) if under_way else -1)
        with contextlib.suppress(BlockingIOError):
            while True:
                packet = os.read(device, PACKET_BYTES)
                under_way.append((time.monotonic() + seconds, packet))
        while under_way and under_way[0][0] <= time.monotonic():
            with contextlib.suppress(OSError):  # a device that is full loses it
                os.write(device, under_way.popleft()[1])


if __name__ == "__main__":
    run(float(sys.argv[1]))
