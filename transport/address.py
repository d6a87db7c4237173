"""Addresses as a socket wants them, and as it returns them."""

from __future__ import annotations

import asyncio
import socket

from schemas.addresses import Address, is_ip
from schemas.errors import Unreachable

SockAddr = tuple[str, int] | tuple[str, int, int, int]


def address_of_socket(sockaddr: SockAddr) -> Address:
    """What a socket call returned; IPv4 seen through a dual-stack socket is IPv4."""
    host = sockaddr[0]
    if host.startswith("::ffff:") and "." in host:
        host = host.removeprefix("::ffff:")
    elif len(sockaddr) == 4 and sockaddr[3] and "%" not in host:
        host = f"{host}%{sockaddr[3]}"
    return Address(host, sockaddr[1])


def numeric_sockaddr(host: str, port: int, family: socket.AddressFamily) -> SockAddr | None:
    """The form that `sendto` on a socket of `family` takes, or None when it cannot go there.

    `host` must be a literal; IPv4 goes through an IPv6 socket as a mapped address.
    """
    if family == socket.AF_INET6 and not is_ip(host, 6):
        host = f"::ffff:{host}"
    elif family == socket.AF_INET and is_ip(host, 6):
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


async def resolve(candidate: Address, family: socket.AddressFamily) -> SockAddr:
    """Where a socket of `family` sends what is for `candidate`; a name is looked up.

    Raises Unreachable `name-not-found`, `no-route`.
    """
    host = candidate.host
    if not candidate.is_literal:
        try:
            infos = await asyncio.get_running_loop().getaddrinfo(
                host,
                candidate.port,
                type=socket.SOCK_DGRAM,
                family=socket.AF_INET if family == socket.AF_INET else socket.AF_UNSPEC,
            )
        except OSError as error:
            raise Unreachable(
                "name-not-found", f"{host!r} has no address", hint="Is the name right?"
            ) from error
        host = str(infos[0][4][0])
    remote = numeric_sockaddr(host, candidate.port, family)
    if remote is None or candidate.port == 0:
        raise Unreachable("no-route", f"{candidate} cannot be reached from this socket")
    return remote
