"""What the operating system says to a send, and one connection's flood beside another's ping."""

from __future__ import annotations

import asyncio
import errno
from typing import Any

import pytest

from tests.transport.support import ALPN, Inbox, Open, pair, within


class Failing:
    """The endpoint's socket, with some sends refused."""

    def __init__(self, real: Any, error: int, above: int = 0) -> None:
        self._real, self._error, self._above, self.left = real, error, above, 12

    def sendto(self, data: bytes, to: Any) -> Any:
        if self.left and len(data) > self._above:
            self.left -= 1
            raise OSError(self._error, "by the test")
        return self._real.sendto(data, to)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


@pytest.mark.parametrize(
    "error, counted",
    [
        (errno.EAGAIN, "send-buffer-full"),
        (errno.ENOBUFS, "send-buffer-full"),
        (errno.ECONNREFUSED, "send-refused"),
        (errno.EPERM, "send-forbidden"),
        (errno.EHOSTUNREACH, "send-no-route"),
        (errno.EIO, "send-failed"),
    ],
)
async def test_a_failed_send_is_counted_and_made_good(
    open_endpoint: Open, error: int, counted: str
) -> None:
    """As if lost on the way: nothing breaks, and the data arrives."""
    dialed, accepted = await pair(open_endpoint)
    _, client = open_endpoint.endpoints
    client._datagrams.sock = Failing(client._sock, error)
    stream = await dialed.open_stream()
    await stream.write(bytes(200_000))
    await stream.finish()
    theirs = await within(accepted.accept_stream())
    got = 0
    while data := await within(theirs.read()):
        got += len(data)
    assert got == 200_000
    assert client.counters[counted] > 0


async def test_a_size_that_is_refused_is_not_used_again(open_endpoint: Open) -> None:
    dialed, accepted = await pair(open_endpoint)
    _, client = open_endpoint.endpoints
    failing = Failing(client._sock, errno.EMSGSIZE, above=4_000)
    failing.left = 1_000_000
    client._datagrams.sock = failing
    stream = await dialed.open_stream()
    await stream.write(bytes(300_000))
    await stream.finish()
    theirs = await within(accepted.accept_stream())
    got = 0
    while data := await within(theirs.read()):
        got += len(data)
    assert got == 300_000
    assert 1 <= client.counters["send-too-large"] < 60
    assert dialed.quic.datagram_size <= 4_000


async def test_a_flood_on_one_connection_leaves_another_its_ping(open_endpoint: Open) -> None:
    inbox = Inbox()
    server = await open_endpoint(inbox)
    loud, quiet = await open_endpoint(), await open_endpoint()
    noisy = await within(loud.dial([server.address], expected=server.device, alpn=ALPN))
    noisy_end = await inbox.next()
    calm = await within(quiet.dial([server.address], expected=server.device, alpn=ALPN))
    stream = await noisy.open_stream()

    async def flood() -> None:
        while True:
            await stream.write(bytes(100_000))

    async def sink() -> None:
        theirs = await noisy_end.accept_stream()
        while await theirs.read():
            pass

    work = [asyncio.create_task(flood()), asyncio.create_task(sink())]
    try:
        trips = [await calm.ping(2.0) for _ in range(20)]
    finally:
        for each in work:
            each.cancel()
    assert sorted(trips)[10] < 0.5
