"""A machine with two addresses in one network answers from the one that was asked."""

from __future__ import annotations

import asyncio
import dataclasses
import socket
import sys

import pytest

from tests.transport.support import ALPN, LOOPBACK, QUICK, Inbox, Open, within
from transport import Address, Endpoint, TransportLimits

SECOND = "127.0.0.2"  # to which the kernel's route answers from 127.0.0.1

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux is asked where it came")


async def server_and_client(
    open_endpoint: Open, everywhere: str, limits: TransportLimits = QUICK
) -> tuple[Inbox, Endpoint, Endpoint]:
    inbox = Inbox()
    server = await open_endpoint(inbox, listen=Address(everywhere, 0), limits=limits)
    return inbox, server, await open_endpoint(listen=LOOPBACK)


@pytest.mark.parametrize("everywhere", ["0.0.0.0", "::"])
@pytest.mark.parametrize("retry", [False, True])
async def test_the_second_address_can_be_dialled(
    open_endpoint: Open, everywhere: str, retry: bool
) -> None:
    limits = dataclasses.replace(QUICK, retry_from_half_open=0) if retry else QUICK
    inbox, server, client = await server_and_client(open_endpoint, everywhere, limits)
    dialed = await client.dial(
        [Address(SECOND, server.address.port)], expected=server.device, alpn=ALPN
    )
    accepted = await inbox.next()
    assert dialed.remote.host == SECOND
    await dialed.ping()
    await accepted.ping()
    assert bool(server.counters["retry"]) == retry


async def test_two_dials_of_one_socket_to_both_addresses(open_endpoint: Open) -> None:
    inbox, server, client = await server_and_client(open_endpoint, "0.0.0.0")
    port = server.address.port
    both = [
        await client.dial([Address(host, port)], expected=server.device, alpn=ALPN)
        for host in ("127.0.0.1", SECOND)
    ]
    ends = [await inbox.next() for _ in both]
    for each in (*both, *ends):
        await each.ping()
    assert ends[0].remote == ends[1].remote == client.address


@pytest.mark.parametrize("everywhere", ["0.0.0.0", "::"])
async def test_an_address_that_is_gone_is_not_insisted_on(
    open_endpoint: Open, everywhere: str
) -> None:
    inbox, server, client = await server_and_client(open_endpoint, everywhere)
    there = Address("127.0.0.1", server.address.port)
    dialed = await client.dial([there], expected=server.device, alpn=ALPN)
    accepted = await inbox.next()
    own = socket.inet_aton("127.0.0.1")
    ((level, kind, value),) = accepted.source
    assert own in value
    accepted.source = ((level, kind, value.replace(own, socket.inet_aton("192.0.2.1"))),)
    await accepted.ping()
    await dialed.ping()
    assert not server.counters["send-no-route"]


async def test_a_stateless_reset_comes_from_where_it_was_asked_for(open_endpoint: Open) -> None:
    _, server, _ = await server_and_client(open_endpoint, "0.0.0.0")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        sock.connect((SECOND, server.address.port))  # hears nobody else
        sock.send(b"\x40" + bytes(60))
        await within(asyncio.get_running_loop().sock_recv(sock, 100))
    assert server.counters["reset-sent"] == 1


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_bound_to_one_address_the_kernel_tells_nothing(
    open_endpoint: Open, host: str
) -> None:
    endpoint = await open_endpoint(listen=Address(host, 0))
    assert isinstance(endpoint._sock, socket.socket)
    assert endpoint._datagrams._telling is None
