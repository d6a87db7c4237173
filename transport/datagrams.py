"""Datagrams in and out of an endpoint's socket; answers leave from the address that was asked.

A client takes no packet from an address that it did not dial (RFC 9000, 9). A socket bound to all
addresses sends from the one that the kernel's route picks: in vain, where a machine has two
addresses in one network.
"""

from __future__ import annotations

import errno
import socket
import struct
import sys
from collections.abc import Sequence
from typing import NamedTuple

from .address import SockAddr
from .udp import DatagramSocket

Ancillary = Sequence[tuple[int, int, bytes]]
"""What `recvmsg` tells of a datagram, and `sendmsg` is told."""

ANY_SOURCE: Ancillary = ()
"""From whichever address the kernel picks."""

SEND_FAILURES = {
    errno.EMSGSIZE: "send-too-large",
    errno.EAGAIN: "send-buffer-full",
    errno.ENOBUFS: "send-buffer-full",
    errno.ECONNREFUSED: "send-refused",  # ICMP about an earlier one, on some systems
    errno.EPERM: "send-forbidden",  # a local firewall
} | dict.fromkeys(
    (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EADDRNOTAVAIL, errno.EINVAL, errno.EACCES),
    "send-no-route",
)

_MAX_UDP_PAYLOAD = 65_535
_IP_PKTINFO = 8  # Linux's; Python names it from 3.14 on
_IN_PKTINFO = struct.Struct("@I4s4s")  # interface, our address, the header's destination
_IN6_PKTINFO = struct.Struct("@16sI")  # our address, interface


class Received(NamedTuple):
    """A datagram, who it says it is from, and what the kernel tells of it."""

    data: bytes
    remote: SockAddr
    told: Ancillary

    @property
    def answer_source(self) -> Ancillary:
        """The address that it came to, as the source of an answer.

        The route picks the interface: the way back may be another one, except on a link.
        """
        for level, kind, value in self.told:
            if (level, kind) == (socket.IPPROTO_IP, _IP_PKTINFO):
                _, own, _ = _IN_PKTINFO.unpack(value)
                return ((level, kind, _IN_PKTINFO.pack(0, own, bytes(4))),)
            if (level, kind) == (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO):
                own, interface = _IN6_PKTINFO.unpack(value)
                link_local = own[0] == 0xFE and own[1] & 0xC0 == 0x80
                return ((level, kind, _IN6_PKTINFO.pack(own, interface if link_local else 0)),)
        return ANY_SOURCE


class Datagrams:
    """Sends and receives on `sock`; does not own it."""

    def __init__(self, sock: DatagramSocket) -> None:
        self.sock = sock
        self._telling = _have_it_tell(sock)
        self._room = socket.CMSG_SPACE(_IN6_PKTINFO.size) if self._telling else 0

    def send(self, data: bytes, to: SockAddr, source: Ancillary) -> str | None:
        """None, or what to count: it was not sent.

        A `source` that this machine no longer has is not insisted on: behind a NAT that forwards
        to its next one, the peer sees no difference.
        """
        try:
            if source and self._telling is not None:
                self._telling.sendmsg((data,), source, 0, to)
            else:
                self.sock.sendto(data, to)
        except OSError as error:
            failure = SEND_FAILURES.get(error.errno or 0, "send-failed")
            if source and failure == "send-no-route":
                return self.send(data, to, ANY_SOURCE)
            return failure
        return None

    def receive(self) -> Received:
        """The next one. Raises BlockingIOError when there is none, OSError."""
        if self._telling is None:
            data, remote = self.sock.recvfrom(_MAX_UDP_PAYLOAD)
            return Received(data, remote, ANY_SOURCE)
        data, told, _, remote = self._telling.recvmsg(_MAX_UDP_PAYLOAD, self._room)
        return Received(data, remote, told)


def _have_it_tell(sock: DatagramSocket) -> socket.socket | None:
    """`sock`, if from now on the kernel tells to which of several addresses a datagram came."""
    if sys.platform != "linux" or not isinstance(sock, socket.socket):
        return None  # elsewhere its form is another one, or missing
    if sock.getsockname()[0] not in ("0.0.0.0", "::"):  # noqa: S104
        return None
    try:
        if sock.family == socket.AF_INET:
            sock.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
        else:  # tells of IPv4, too, as mapped addresses
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
    except OSError:
        return None
    return sock
