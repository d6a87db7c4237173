"""Ports of loopback for programs that are started later, and again."""

from __future__ import annotations

import contextlib
import random
import socket
from pathlib import Path

_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")


def free_ports(count: int) -> list[int]:
    """Free for UDP and TCP a moment ago, and none that whoever binds to port 0 may be given: a
    program that was killed finds its own again, however many sockets were opened meanwhile."""
    least = int(_RANGE.read_text().split()[0]) if _RANGE.exists() else 32_768
    found: list[int] = []
    with contextlib.ExitStack() as stack:
        for port in random.sample(range(max(1_024, least - 16_384), least), 1_000):
            if len(found) == count:
                break
            try:
                for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
                    taken = stack.enter_context(socket.socket(socket.AF_INET, kind))
                    taken.bind(("127.0.0.1", port))
            except OSError:
                continue
            found.append(port)
    assert len(found) == count, "hardly a port is free"
    return found
