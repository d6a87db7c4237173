"""What systemd (Type=notify) is told: the relay is ready, alive, stopping. See sd_notify(3).

Without NOTIFY_SOCKET in the environment nothing is told to anybody.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

log = logging.getLogger(__name__)


@asynccontextmanager
async def told_to_systemd(environment: Mapping[str, str] = os.environ) -> AsyncIterator[None]:
    """The block is the time in which the relay serves; the loop says meanwhile that it runs."""
    to = environment.get("NOTIFY_SOCKET", "")
    notify(to, "READY=1")
    beat = asyncio.create_task(_beat(to, environment.get("WATCHDOG_USEC", "")), name="watchdog")
    try:
        yield
    finally:
        beat.cancel()
        notify(to, "STOPPING=1")
        await asyncio.gather(beat, return_exceptions=True)


async def _beat(to: str, watchdog_us: str) -> None:
    if not to or not watchdog_us.isdigit() or int(watchdog_us) == 0:
        return
    while True:
        notify(to, "WATCHDOG=1")
        await asyncio.sleep(int(watchdog_us) / 1e6 / 3)


def notify(to: str, state: str) -> None:
    """One datagram to the socket `to`; its name begins with / or, when it is abstract, with @."""
    if not to:
        return
    name = "\0" + to[1:] if to.startswith("@") else to
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            sock.connect(name)
            sock.send(state.encode())
    except OSError as error:
        log.warning("systemd was not told %s: %s", state, error.strerror)
