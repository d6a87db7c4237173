"""The search for a UPnP gateway (UPnP Device Architecture 1.1, section 1.3)."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from typing import Final
from urllib.parse import SplitResult, urlsplit

from schemas.errors import Malformed, Unreachable

from .values import Gateway, MappingLimits

_GROUP: Final = "239.255.255.250"
_PORT: Final = 1900
_DEVICE: Final = "urn:schemas-upnp-org:device:InternetGatewayDevice:1"  # version 2 answers as well
_SEARCHES: Final = 3  # multicast over Wi-Fi is often lost
_MOST_BYTES: Final = 2_048


async def find_description(gateway: Gateway, limits: MappingLimits, counters: Counter[str]) -> str:
    """The URL of `gateway`'s own device description. Raises Unreachable `no-answer`.

    Whatever other addresses say is not looked at: who translates for us is our gateway.
    """
    loop = asyncio.get_running_loop()
    found: asyncio.Future[str] = loop.create_future()
    try:
        sock = _socket(gateway.own)
    except OSError as error:
        raise Unreachable("no-answer", f"no search for UPnP: {error.strerror}") from None
    transport, _ = await loop.create_datagram_endpoint(
        lambda: _Answers(gateway, found, limits.search_datagrams, counters), sock=sock
    )
    try:
        for _ in range(_SEARCHES):
            # By unicast as well: some access points keep multicast from the router.
            for host in (_GROUP, gateway.host):
                transport.sendto(_search(host), (host, _PORT))
            done, _ = await asyncio.wait({found}, timeout=limits.search_s / _SEARCHES)
            if done:
                return found.result()
    finally:
        transport.close()
    raise Unreachable("no-answer", f"{gateway.host} does not answer a search for UPnP")


def _search(host: str) -> bytes:
    return (
        f'M-SEARCH * HTTP/1.1\r\nHOST: {host}:{_PORT}\r\nMAN: "ssdp:discover"\r\n'
        f"MX: 1\r\nST: {_DEVICE}\r\n\r\n"
    ).encode()


def _socket(own: str) -> socket.socket:
    """Raises OSError."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        sock.setblocking(False)
        sock.bind((own, 0))
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(own))
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 2)  # as the architecture says
    except BaseException:
        sock.close()
        raise
    return sock


class _Answers(asyncio.DatagramProtocol):
    def __init__(
        self, gateway: Gateway, found: asyncio.Future[str], most: int, counters: Counter[str]
    ) -> None:
        self._gateway = gateway
        self._found = found
        self._left = most
        self._counters = counters

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        if self._found.done():
            return
        self._left -= 1
        try:
            if addr[0] != self._gateway.host:
                raise Malformed("ssdp-not-the-gateway", f"{addr[0]} is not our gateway")
            self._found.set_result(location_untrusted(data, self._gateway.host))
        except Malformed as fault:
            self._counters[f"port-mapping-{fault.code}"] += 1
            if self._left <= 0:
                flood = Unreachable("no-answer", "a flood of answers to a search for UPnP")
                self._found.set_exception(flood)

    def error_received(self, exc: Exception) -> None:
        """Nobody listens at the unicast address: the multicast may still be answered."""


def location_untrusted(data: bytes, host: str) -> str:
    """The URL of a description at `host` in an answer to a search. Raises Malformed."""
    lines = data[:_MOST_BYTES].decode("ascii", "replace").split("\r\n")
    if not lines[0].startswith("HTTP/1.1 200"):
        raise Malformed("not-ssdp", "not an answer to a search")
    for line in lines[1:]:
        name, _, value = line.partition(":")
        if name.strip().lower() == "location":
            own_url_untrusted(value.strip(), host)
            return value.strip()
    raise Malformed("not-ssdp", "an answer to a search without a location")


def own_url_untrusted(url: str, host: str) -> SplitResult:
    """`url` when it leads to `host` by plain HTTP. Raises Malformed `foreign-url`.

    Without this a router (or who speaks for it) could have us send requests to any machine that
    this one reaches, itself included.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise Malformed("foreign-url", "not a URL") from None
    if (
        parts.scheme != "http"
        or parts.hostname != host
        or "@" in parts.netloc
        or port == 0
        or not url.isascii()
        or not url.isprintable()
    ):
        raise Malformed("foreign-url", "a URL that does not lead to the router")
    return parts
