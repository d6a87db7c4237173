"""Gateways that say unasked that they have begun anew (RFC 6886, 3.2.1; RFC 6887, 14.1)."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from schemas.errors import Malformed

from . import nat_pmp, pcp
from .exchange import PORT
from .values import Gateway

_CLIENT_PORT: Final = 5350
_ALL_HOSTS: Final = "224.0.0.1"


class Announcements(asyncio.DatagramProtocol):
    """Listens to one gateway. A hint, no more: anybody on the LAN can forge one."""

    def __init__(self, gateway: Gateway, heard: Callable[[], None], counters: Counter[str]) -> None:
        self._gateway = gateway
        self._heard = heard
        self._counters = counters
        self._transport: asyncio.DatagramTransport | None = None

    async def start(self) -> None:
        """Without that port (another program may have it to itself) renewals notice instead."""
        loop = asyncio.get_running_loop()
        try:
            sock = _socket(self._gateway.own)
        except OSError:
            self._counters["port-mapping-announcements-unheard"] += 1
            return
        self._transport, _ = await loop.create_datagram_endpoint(lambda: self, sock=sock)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        try:
            if addr != (self._gateway.host, PORT):
                raise Malformed("announced-by-another", f"{addr[0]} is not our gateway")
            announcement_untrusted(data)
        except Malformed as fault:
            self._counters[f"port-mapping-{fault.code}"] += 1
        else:
            self._heard()


def announcement_untrusted(data: bytes) -> None:
    """Of either protocol. Raises Malformed when it is none."""
    if data[:1] == bytes([pcp.VERSION]):
        pcp.announcement_untrusted(data)
    else:
        nat_pmp.announcement_untrusted(data)


def _socket(own: str) -> socket.socket:
    """Shared with other clients of this machine. Raises OSError."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with suppress(AttributeError, OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(("", _CLIENT_PORT))
        group = socket.inet_aton(_ALL_HOSTS) + socket.inet_aton(own)
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group)
    except BaseException:
        sock.close()
        raise
    return sock
