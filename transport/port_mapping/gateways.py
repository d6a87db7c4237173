"""The routers that this machine's packets leave through, from the system's routing table."""

from __future__ import annotations

import ipaddress
import socket
import struct
import subprocess
from pathlib import Path
from typing import Final

from schemas.addresses import Address

from .values import Gateway

_LINUX_TABLE: Final = Path("/proc/net/route")
_UP_AND_GATEWAY: Final = 0x3  # RTF_UP | RTF_GATEWAY
_NETSTAT_S: Final = 2.0
_ANY_PORT: Final = 9  # nothing is sent there


def private_gateways(bound: Address) -> tuple[Gateway, ...]:
    """IPv4 gateways that may translate for a socket bound at `bound`, most used first.

    Only those on a private network, towards which our own address is private, too, and is one that
    `bound` receives on. Blocks for some milliseconds. Raises OSError when the system cannot say.
    """
    found = []
    for host in _default_routes():
        own = _own_towards(host)
        if own is None or not (_is_private(host) and _is_private(own)):
            continue
        if bound.host in ("0.0.0.0", "::", own):  # noqa: S104 - compared, not bound
            found.append(Gateway(host, own))
    return tuple(dict.fromkeys(found))


def _is_private(host: str) -> bool:
    ip = ipaddress.ip_address(host)
    return not ip.is_global and not ip.is_loopback


def _default_routes() -> list[str]:
    """Next hops of the IPv4 default routes, lowest metric first. Raises OSError."""
    if _LINUX_TABLE.exists():
        return linux_default_routes(_LINUX_TABLE.read_text())
    try:
        shown = subprocess.run(
            ["netstat", "-rn", "-f", "inet"],  # noqa: S607 - its place differs between the BSDs
            capture_output=True,
            text=True,
            timeout=_NETSTAT_S,
            check=True,
        )
    except subprocess.SubprocessError as error:
        raise OSError(f"the routing table cannot be read: {error}") from None
    return bsd_default_routes(shown.stdout)


def linux_default_routes(table: str) -> list[str]:
    """From the text of Linux's table: addresses are hex in the machine's byte order."""
    routes = []
    for line in table.splitlines()[1:]:
        fields = line.split()
        if len(fields) < 8 or int(fields[1], 16) or int(fields[7], 16):
            continue  # not to 0.0.0.0/0
        if int(fields[3], 16) & _UP_AND_GATEWAY == _UP_AND_GATEWAY:
            host = ipaddress.IPv4Address(struct.pack("=L", int(fields[2], 16)))
            routes.append((int(fields[6]), str(host)))
    return [host for _, host in sorted(routes, key=lambda route: route[0])]


def bsd_default_routes(shown: str) -> list[str]:
    """From what `netstat -rn` shows; a next hop that is no address (a link) is none of ours."""
    routes = []
    for line in shown.splitlines():
        fields = line.split()
        if len(fields) >= 2 and fields[0] in ("default", "0.0.0.0/0"):
            try:
                routes.append(str(ipaddress.IPv4Address(fields[1])))
            except ValueError:
                continue
    return routes


def _own_towards(host: str) -> str | None:
    """The address that the system would send from; None without a way there."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        try:
            asked.connect((host, _ANY_PORT))
            return str(asked.getsockname()[0])
        except OSError:
            return None
