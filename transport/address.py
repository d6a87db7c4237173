"""Host and port: as the user types them, as a socket wants them, as records carry them."""

from __future__ import annotations

import ipaddress
import socket
from typing import NamedTuple

from schemas.errors import Refused
from schemas.limits import ADDRESS_TEXT

SockAddr = tuple[str, int] | tuple[str, int, int, int]


class Address(NamedTuple):
    """A UDP address. `host` is an IPv4 or IPv6 literal (scope id allowed) or a name."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read `host:port` or `[IPv6]:port`. Raises Refused `bad-address`."""
        if len(text) > ADDRESS_TEXT:
            raise _bad(text[:32] + "…", f"longer than {ADDRESS_TEXT} characters")
        host, colon, digits = text.rpartition(":")
        if not colon:
            raise _bad(text, "there is no port")
        if not (digits.isascii() and digits.isdigit() and len(digits) <= 5 and int(digits) < 65536):
            raise _bad(text, "the port is not a number from 0 to 65535")
        if host.startswith("[") and host.endswith("]"):
            host = host[1:-1]
            if not _is_literal(host, 6):
                raise _bad(text, "what stands in brackets is not an IPv6 address")
        elif ":" in host:
            raise _bad(text, "an IPv6 address needs brackets")
        elif not _is_host(host):
            raise _bad(text, "the host is neither an address nor a name")
        return cls(host, int(digits))

    @classmethod
    def of_socket(cls, sockaddr: SockAddr) -> Address:
        """What a socket call returned; IPv4 seen through a dual-stack socket is IPv4."""
        host = sockaddr[0]
        if host.startswith("::ffff:") and "." in host:
            host = host.removeprefix("::ffff:")
        elif len(sockaddr) == 4 and sockaddr[3] and "%" not in host:
            host = f"{host}%{sockaddr[3]}"
        return cls(host, sockaddr[1])

    @property
    def is_literal(self) -> bool:
        """True when no name has to be looked up."""
        return _is_literal(self.host, 4) or _is_literal(self.host, 6)

    @property
    def is_ipv6(self) -> bool:
        return _is_literal(self.host, 6)

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def numeric_sockaddr(host: str, port: int, family: socket.AddressFamily) -> SockAddr | None:
    """The form that `sendto` on a socket of `family` takes, or None when it cannot go there.

    `host` must be a literal; IPv4 goes through an IPv6 socket as a mapped address.
    """
    if family == socket.AF_INET6 and not _is_literal(host, 6):
        host = f"::ffff:{host}"
    elif family == socket.AF_INET and _is_literal(host, 6):
        return None
    try:
        infos = socket.getaddrinfo(
            host, port, family, socket.SOCK_DGRAM, flags=socket.AI_NUMERICHOST
        )
    except OSError:
        return None
    found = infos[0][4]
    if len(found) == 4:
        return (str(found[0]), int(found[1]), int(found[2]), int(found[3]))
    return (str(found[0]), int(found[1]))


def _is_literal(host: str, version: int) -> bool:
    try:
        return ipaddress.ip_address(host).version == version
    except ValueError:
        return False


def _is_host(host: str) -> bool:
    if _is_literal(host, 4):
        return True
    labels = host.removesuffix(".").split(".")
    return (
        all(
            0 < len(label) <= 63
            and label.isascii()
            and label.replace("-", "").replace("_", "").isalnum()
            and not label.startswith("-")
            for label in labels
        )
        and not labels[-1].isdigit()
    )


def _bad(text: str, why: str) -> Refused:
    return Refused(
        "bad-address",
        f"{text!r} is not an address: {why}",
        hint="Write host:port, for example 192.0.2.7:7000 or [2001:db8::7]:7000.",
    )
