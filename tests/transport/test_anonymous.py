"""Dialling whoever answers, as nobody: what the two ends may learn of each other."""

from __future__ import annotations

import contextlib

import pytest

from schemas.errors import Unreachable
from tests.transport.support import ALPN, LOOPBACK, QUICK, Inbox, Open, within
from tests.transport.test_endpoint import dead_address
from transport import AnonymousEndpoint, Endpoint


async def test_whoever_answers_proves_a_key_and_learns_neither_ours_nor_our_port(
    open_endpoint: Open,
) -> None:
    inbox = Inbox()
    server, ours = await open_endpoint(inbox), await open_endpoint()
    nobody = await AnonymousEndpoint.open_anonymous(ours.address, limits=QUICK)
    connection = await within(nobody.dial_unpinned(server.address, alpn=ALPN))
    assert connection.peer == server.device
    seen = await inbox.next()
    assert seen.peer == nobody.device != ours.device
    assert seen.remote.port == nobody.address.port != ours.address.port
    await nobody.close()


async def test_each_has_a_key_of_its_own() -> None:
    one = await AnonymousEndpoint.open_anonymous(LOOPBACK)
    two = await AnonymousEndpoint.open_anonymous(LOOPBACK)
    assert one.device != two.device
    await one.close()
    await two.close()


def test_a_device_cannot_dial_whoever_answers() -> None:
    """It would tell a stranger at some address whose device this is."""
    assert not hasattr(Endpoint, "dial_unpinned")


async def test_a_dial_to_silence_is_few_packets() -> None:
    """Whoever has us dial a victim buys no more with it. Takes the DHT's whole deadline: 2 s."""
    nobody = await AnonymousEndpoint.open_anonymous(LOOPBACK)
    sock, victim = dead_address()
    sock.setblocking(False)
    with pytest.raises(Unreachable):
        await within(nobody.dial_unpinned(victim, alpn=ALPN, deadline_s=2.0))
    sizes = []
    with contextlib.suppress(BlockingIOError):
        while True:
            sizes.append(len(sock.recv(65_535)))
    assert 0 < len(sizes) <= 10
    assert max(sizes) <= 1_200
    await nobody.close()
    sock.close()


async def test_nobody_answers() -> None:
    nobody = await AnonymousEndpoint.open_anonymous(LOOPBACK, limits=QUICK)
    sock, dead = dead_address()
    with pytest.raises(Unreachable) as caught:
        await within(nobody.dial_unpinned(dead, alpn=ALPN, deadline_s=0.1))
    assert caught.value.code == "no-answer"
    await nobody.close()
    sock.close()
