"""One UDP socket, bound once, for accepting and dialling alike."""

from __future__ import annotations

import contextlib
import errno
import socket
import sys
from collections.abc import Callable
from typing import Any, Protocol

from schemas.addresses import Address, is_ip
from schemas.errors import Blame, Fault, Refused

from .address import SockAddr, numeric_sockaddr


class DatagramSocket(Protocol):
    """What an endpoint uses of a bound, non-blocking UDP socket: the kernel's, or a simulator's."""

    @property
    def family(self) -> socket.AddressFamily: ...
    def fileno(self) -> int: ...
    def getsockname(self) -> Any: ...
    def setsockopt(self, level: int, option: int, value: int, /) -> None: ...
    def sendto(self, data: bytes, to: SockAddr, /) -> int: ...
    def recvfrom(self, most: int, /) -> tuple[bytes, Any]: ...
    def close(self) -> None: ...


Bind = Callable[[Address, int], DatagramSocket]
"""As `bind_udp`."""


def bind_udp(listen: Address, buffer_bytes: int) -> socket.socket:
    """A non-blocking socket bound to `listen`; port 0 takes any free one, `::` takes IPv4 too.

    Raises Fault `port-busy`, `cannot-bind`; Refused `bad-address` when `listen` is not a literal.
    """
    if not listen.is_literal:
        raise Refused(
            "bad-address",
            f"{listen.host!r} cannot be listened on: it is not an IP address",
            hint="Use 0.0.0.0 or :: for all interfaces.",
        )
    family = socket.AF_INET6 if is_ip(listen.host, 6) else socket.AF_INET
    try:
        sock = socket.socket(family, socket.SOCK_DGRAM)
    except OSError as error:  # too many open files
        raise _cannot_bind(listen, error.strerror or "refused") from error
    try:
        sock.setblocking(False)
        if family == socket.AF_INET6:
            dual_stack = listen.host == "::"
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if dual_stack else 1)
        for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            with contextlib.suppress(OSError):  # a smaller buffer loses packets, nothing else
                sock.setsockopt(socket.SOL_SOCKET, option, buffer_bytes)
        target = numeric_sockaddr(listen.host, listen.port, family)
        if target is None:
            raise _cannot_bind(listen, "no such address")
        sock.bind(target)
    except OSError as error:
        sock.close()
        if error.errno == errno.EADDRINUSE:
            raise Fault(
                "port-busy",
                f"Another program uses UDP port {listen.port}",
                blame=Blame.ENVIRONMENT,
                hint="Stop it, or choose another port.",
            ) from error
        raise _cannot_bind(listen, error.strerror or "refused") from error
    except BaseException:
        sock.close()
        raise
    return sock


# Values of Linux and of the BSDs; Python's socket module does not name them all.
_LINUX_DISCOVER = ((socket.IPPROTO_IP, 10), (socket.IPPROTO_IPV6, 23))
_LINUX_PROBE = 3  # DF set, and the kernel's own idea of the path's MTU ignored
_BSD_DONT_FRAGMENT = ((socket.IPPROTO_IP, 67), (socket.IPPROTO_IPV6, 62))
_DARWIN_DONT_FRAGMENT = ((socket.IPPROTO_IP, 28), (socket.IPPROTO_IPV6, 62))


def forbid_fragments(sock: DatagramSocket) -> bool:
    """Have the network drop what it cannot carry whole; without that, probing finds nothing out.

    A dual-stack socket needs it for both families.
    """
    if sys.platform == "linux":
        options, value = _LINUX_DISCOVER, _LINUX_PROBE
    else:
        darwin = sys.platform == "darwin"
        options, value = (_DARWIN_DONT_FRAGMENT if darwin else _BSD_DONT_FRAGMENT), 1
    both = options if sock.family == socket.AF_INET6 else options[:1]
    try:
        for level, option in both:
            sock.setsockopt(level, option, value)
    except OSError:
        return False
    return True


def _cannot_bind(listen: Address, why: str) -> Fault:
    return Fault(
        "cannot-bind",
        f"{listen} cannot be listened on: {why}",
        blame=Blame.ENVIRONMENT,
        hint="The address must belong to this machine; ports below 1024 need privileges.",
    )
