"""Whether this machine's addresses change, told by the system as it happens, where it tells."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

_GROUPS: Final = 0x10 | 0x100  # RTMGRP_IPV4_IFADDR, RTMGRP_IPV6_IFADDR (linux/rtnetlink.h)
_READ_BYTES: Final = 65_536


@contextmanager
def told_of_changes(changed: Callable[[], None]) -> Iterator[None]:
    """Within it `changed` is called, in the running loop, when an address came or went.

    Several changes may be one call. Where the system does not tell (other than Linux, or a
    container without netlink), nobody calls: look now and then as well.
    """
    opened = _open()
    if opened is None:
        yield
        return
    loop = asyncio.get_running_loop()

    def read() -> None:
        # What it says is read by who reads the adapters. ENOBUFS: more has changed than fits.
        with contextlib.suppress(OSError):
            while opened.recv(_READ_BYTES):
                pass
        changed()

    with opened:
        loop.add_reader(opened, read)
        try:
            yield
        finally:
            loop.remove_reader(opened)


def _open() -> socket.socket | None:
    family = getattr(socket, "AF_NETLINK", None)
    if family is None:
        return None
    opened = None
    try:
        opened = socket.socket(family, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE)
        opened.bind((0, _GROUPS))
    except OSError:
        if opened is not None:
            opened.close()
        return None
    return opened
