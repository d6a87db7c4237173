"""Probes: any QUIC endpoint answers them, nothing is kept, and nobody can aim them at a victim."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from schemas.addresses import Address
from transport import Connection, Endpoint, Prober
from transport.probe import answered_ids_untrusted

DEADLINE_S = 5.0


async def serve(connection: Connection) -> None:
    await connection.wait_closed()


@pytest.fixture
async def prober() -> AsyncIterator[Prober]:
    found = await Prober.open(rate=1e6)
    yield found
    found.close()


@pytest.fixture
def silent() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.setblocking(False)
        yield sock


def where(sock: socket.socket) -> Address:
    return Address(*sock.getsockname())


def received(sock: socket.socket) -> list[bytes]:
    found = []
    while True:
        try:
            found.append(sock.recv(2000))
        except BlockingIOError:
            return found


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "::"])
async def test_an_endpoint_answers_and_keeps_nothing(prober: Prober, host: str) -> None:
    endpoint = await Endpoint.open(
        Ed25519PrivateKey.generate(), Address(host, 0), handlers={"x": serve}
    )
    there = Address("127.0.0.1" if host == "::" else host, endpoint.address.port)
    assert await prober.probe([there], deadline_s=DEADLINE_S) == there
    assert endpoint.counters == {"other-version": 1}
    assert endpoint.connections == []
    assert prober.counters["probe-sent"] == 1
    await endpoint.close()
    assert await prober.probe([there], deadline_s=0.1) is None


async def test_the_address_that_answers_is_found_among_others(
    prober: Prober, silent: socket.socket
) -> None:
    endpoint = await Endpoint.open(
        Ed25519PrivateKey.generate(), Address("127.0.0.1", 0), handlers={"x": serve}
    )
    addresses = [where(silent), endpoint.address]
    assert await prober.probe(addresses, deadline_s=DEADLINE_S) == endpoint.address
    (packet,) = received(silent)
    assert len(packet) == 1200, "or it would not be answered (RFC 9000, 14.1)"
    await endpoint.close()


async def test_answers_that_nobody_asked_for_are_counted(
    prober: Prober, silent: socket.socket
) -> None:
    """Ids are random: who has not seen the probe cannot make its answer."""
    asking = asyncio.create_task(prober.probe([where(silent)], deadline_s=0.5))
    loop = asyncio.get_running_loop()
    _, sender = await loop.sock_recvfrom(silent, 2000)
    made_up = b"\xc0" + bytes(4) + b"\x08" + b"a" * 8 + b"\x08" + b"b" * 8 + b"\0\0\0\1"
    silent.sendto(made_up, sender)
    silent.sendto(b"garbage", sender)
    assert await asking is None
    assert prober.counters["probe-stray"] == 2
    assert prober._asked == {}


async def test_a_host_that_never_answered_gets_a_few_and_then_one_in_ten_seconds(
    prober: Prober, silent: socket.socket
) -> None:
    """Somebody on the LAN may have named a victim, again and again, at all its ports."""
    others = [Address("127.0.0.1", port) for port in range(2, 30)]
    for target in (where(silent), *others):
        try:
            async with asyncio.timeout(0.02):
                await prober.probe([target, where(silent)], deadline_s=0.05)
        except TimeoutError:
            continue
    assert prober.counters["probe-sent"] <= 5
    assert 1 <= len(received(silent)) <= 5


async def test_all_probes_together_are_bounded(silent: socket.socket) -> None:
    prober = await Prober.open(rate=2.0)
    try:
        async with asyncio.timeout(0.3), asyncio.TaskGroup() as group:
            for n in range(50):
                there = Address(f"127.0.0.{n + 1}", silent.getsockname()[1])
                group.create_task(prober.probe([there], deadline_s=1.0))
    except TimeoutError:
        pass
    assert prober.counters["probe-sent"] <= 2
    prober.close()


@given(st.binary(max_size=60))
def test_any_bytes_are_no_answer_or_sixteen_bytes(data: bytes) -> None:
    ids = answered_ids_untrusted(data)
    assert ids is None or len(ids) == 16
