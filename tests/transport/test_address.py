"""Socket addresses: IPv4 through a dual-stack socket, and scopes."""

from __future__ import annotations

import socket

from schemas.addresses import Address
from transport.address import address_of_socket, numeric_sockaddr


def test_socket_forms() -> None:
    assert address_of_socket(("::ffff:192.0.2.7", 7, 0, 0)) == Address("192.0.2.7", 7)
    assert address_of_socket(("fe80::1", 7, 0, 2)) == Address("fe80::1%2", 7)
    assert numeric_sockaddr("192.0.2.7", 7, socket.AF_INET6) == ("::ffff:192.0.2.7", 7, 0, 0)
    assert numeric_sockaddr("::1", 7, socket.AF_INET) is None
