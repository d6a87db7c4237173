"""Path MTU probing: as large as the path carries, and back when it shrinks (RFC 8899)."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.transport.support import QUICK, Open, eventually, pair, within
from tests.transport.virtual import JumpingLoop, virtual_pair
from transport import Connection, TransportLimits
from transport.path_mtu import PathMtuSearch

LIMITS = TransportLimits(mtu_search_from=0)
IPV6_AND_UDP = 48


async def settle(seconds: float = 40.0) -> None:
    await asyncio.sleep(seconds)  # virtual


async def move(sender: Connection, receiver: Connection, size: int) -> None:
    """`size` bytes arrive, whatever the path does."""
    stream = await sender.open_stream()
    await stream.write(b"!")
    theirs = await receiver.accept_stream()

    async def write() -> None:
        await stream.write(bytes(size))
        await stream.finish()

    writing = asyncio.create_task(write())
    got = 0
    while data := await theirs.read():
        got += len(data)
    await writing
    assert got == size + 1


@pytest.mark.parametrize("mtu", [1_280, 1_452, 1_500, 9_000, 65_535])
def test_the_size_follows_the_path(loop: JumpingLoop, mtu: int) -> None:
    payload = mtu - IPV6_AND_UDP

    async def scenario() -> None:
        client, server, to_server, to_client = virtual_pair(LIMITS)
        to_server.payload = to_client.payload = payload
        await client.wait_established()
        await settle()
        for connection in (client, server):
            size = connection.quic.datagram_size
            assert size <= min(payload, LIMITS.largest_datagram)
            # Within an eighth of what the path carries.
            assert size * 9 / 8 >= min(payload, LIMITS.largest_datagram)
        to_server.sizes.clear()
        await move(client, server, 300_000)
        # Nothing but what fits was used for data: no loss, no repetition.
        assert sum(size * n for size, n in to_server.sizes.items()) < 330_000

    loop.run_until_complete(asyncio.wait_for(scenario(), 1_000))
    assert loop.turns < 20_000


@pytest.mark.parametrize("after", [1_252, 1_452])
def test_a_path_that_shrinks_in_the_middle_loses_nothing(loop: JumpingLoop, after: int) -> None:
    """A black hole: large datagrams vanish without a word, and only they."""

    async def scenario() -> None:
        client, server, to_server, _ = virtual_pair(LIMITS)
        await client.wait_established()
        await settle()
        assert client.quic.datagram_size == LIMITS.largest_datagram
        to_server.payload = after
        started = loop.time()
        await move(client, server, 500_000)
        assert loop.time() - started < 15, "found out by loss, not by a timeout of the link"
        await settle()
        assert LIMITS.datagram <= client.quic.datagram_size <= after
        assert server.quic.datagram_size == LIMITS.largest_datagram, "its direction is unhurt"
        to_server.payload = 65_507
        await settle(LIMITS.mtu_again_s + 60)
        assert client.quic.datagram_size == LIMITS.largest_datagram, "grows again when it can"

    loop.run_until_complete(asyncio.wait_for(scenario(), 10_000))


def test_small_messages_hide_no_black_hole(loop: JumpingLoop) -> None:
    """Small packets arrive and are acknowledged all the while; the large ones still get through."""

    async def scenario() -> None:
        client, server, to_server, _ = virtual_pair(LIMITS)
        await client.wait_established()
        await settle()
        to_server.payload = 1_300
        chatter = await client.open_stream()
        done = False

        async def chat() -> None:
            while not done:
                await chatter.write(b"small")
                await asyncio.sleep(0.02)

        await chatter.write(b"!")
        await server.accept_stream()
        chatting = asyncio.create_task(chat())
        await move(client, server, 200_000)
        done = True
        await chatting
        assert client.quic.datagram_size <= 1_300

    loop.run_until_complete(asyncio.wait_for(scenario(), 100))


def test_a_few_questions_to_a_stranger_are_not_worth_a_search(loop: JumpingLoop) -> None:
    """A lookup in the DHT asks twenty nodes one thing each."""

    async def scenario() -> None:
        client, server, to_server, to_client = virtual_pair(TransportLimits())
        await client.wait_established()
        await move(client, server, 1_000)
        await settle()
        assert max(to_server.sizes) <= 1_200
        assert max(to_client.sizes) <= 1_200
        await move(client, server, 100_000)
        await settle()
        assert client.quic.datagram_size == LIMITS.largest_datagram

    loop.run_until_complete(asyncio.wait_for(scenario(), 1_000))


def test_the_local_interface_says_no_at_once(loop: JumpingLoop) -> None:
    async def scenario() -> None:
        client, server, to_server, _ = virtual_pair(LIMITS)
        to_server.interface = to_server.payload = 1_472
        await client.wait_established()
        await settle(1.0)
        assert 1_452 <= client.quic.datagram_size <= 1_472
        to_server.interface = to_server.payload = 1_280  # another network, while in use
        await move(client, server, 100_000)
        assert client.quic.datagram_size <= 1_280

    loop.run_until_complete(asyncio.wait_for(scenario(), 100))


def test_loss_alone_is_not_taken_for_a_small_path(loop: JumpingLoop) -> None:
    async def scenario() -> None:
        client, server, to_server, to_client = virtual_pair(LIMITS)
        to_server.loss = to_client.loss = 0.1
        await client.wait_established()
        await move(client, server, 2_000_000)
        await settle(700)
        assert client.quic.datagram_size == LIMITS.largest_datagram

    loop.run_until_complete(asyncio.wait_for(scenario(), 10_000))


def test_the_peers_own_limit_is_kept(loop: JumpingLoop) -> None:
    """RFC 9000, 18.2: max_udp_payload_size."""

    async def scenario() -> None:
        client, server, to_server, _ = virtual_pair(LIMITS)
        plain = server.quic._serialize_transport_parameters
        server.quic._serialize_transport_parameters = (  # type: ignore[method-assign]
            lambda: plain() + bytes([3, 2]) + (5_000 | 0x4000).to_bytes(2, "big")
        )
        await client.wait_established()
        await settle()
        assert client.quic.datagram_size == 5_000
        assert max(to_server.sizes) == 5_000

    loop.run_until_complete(asyncio.wait_for(scenario(), 1_000))


def test_probes_do_not_count_as_congestion(loop: JumpingLoop) -> None:
    async def scenario() -> None:
        client, _, to_server, _ = virtual_pair(LIMITS)
        to_server.payload = 1_200
        await client.wait_established()
        window = client.quic._loss.congestion_window
        await settle()
        assert client.quic.datagram_size == 1_200
        assert client.quic._loss.congestion_window >= window
        assert client.quic._loss.bytes_in_flight == 0

    loop.run_until_complete(asyncio.wait_for(scenario(), 1_000))


async def test_loopback_carries_the_largest(open_endpoint: Open) -> None:
    dialed, accepted = await pair(open_endpoint)
    for connection in (dialed, accepted):
        await eventually(lambda c=connection: c.quic.datagram_size == 16_383)  # type: ignore[misc]
    await within(move(dialed, accepted, 3_000_000))


async def test_without_the_ban_on_fragments_nothing_is_probed(
    open_endpoint: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transport.endpoint.forbid_fragments", lambda _: False)
    dialed, accepted = await pair(open_endpoint, replace(QUICK, mtu_probe_s=0.05))
    await within(move(dialed, accepted, 100_000))
    assert dialed.quic.datagram_size == 1_200


@given(
    carries=st.integers(1_200, 20_000),
    ceiling=st.integers(1_200, 16_383),
    lost=st.lists(st.booleans(), max_size=200),
)
def test_the_search_ends_and_never_exceeds_what_arrived(
    carries: int, ceiling: int, lost: list[bool]
) -> None:
    """Whatever is lost besides: no size in use that no probe has shown to arrive."""
    search = PathMtuSearch(base=1_200, ceiling=ceiling, tries=3, again_after_s=600, now=0.0)
    now, chance = 0.0, iter(lost)
    for _ in range(200):
        size = search.next_probe(now, 1.0)
        if size is None:
            break
        assert 1_200 < size <= ceiling
        if size <= carries and not next(chance, False):
            search.acknowledged(size)
        else:
            now += 1.0
            search.expire(now)
        assert search.current <= max(carries, 1_200)
    else:
        pytest.fail("the search does not end")
    if not lost:
        assert search.current * 9 / 8 >= min(carries, ceiling)
