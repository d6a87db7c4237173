"""The shell under a clock that jumps: what the simulator will run, and no timer may spin."""

from __future__ import annotations

import asyncio

import pytest

from tests.transport.virtual import LATENCY_S, JumpingLoop, virtual_pair
from transport import EndedBy, FrameStream, TransportLimits


def test_a_hundred_messages_then_an_hour_then_silence(loop: JumpingLoop) -> None:
    async def scenario() -> None:
        client, server, from_client, from_server = virtual_pair(TransportLimits())
        await client.wait_established()
        assert loop.time() == pytest.approx(2 * LATENCY_S, abs=0.02)
        frames = FrameStream(await client.open_stream())
        for index in range(100):
            await frames.write(bytes([index]))
        theirs = FrameStream(await server.accept_stream())
        for index in range(100):
            assert await theirs.read() == bytes([index])
        assert await client.ping() == pytest.approx(2 * LATENCY_S, abs=0.01)

        await asyncio.sleep(3600)  # virtual: keep-alive holds the link
        assert not client.closed
        assert not server.closed

        from_client.cut = from_server.cut = True
        cut_at = loop.time()
        reasons = await asyncio.gather(client.wait_closed(), server.wait_closed())
        assert {reason.by for reason in reasons} == {EndedBy.SILENCE}
        assert loop.time() - cut_at < 2 * TransportLimits().idle_timeout_s

    loop.run_until_complete(asyncio.wait_for(scenario(), 10_000))
    assert loop.turns < 5_000, "a timer that fires early spins"


def test_a_handshake_with_nobody_ends_at_its_deadline(loop: JumpingLoop) -> None:
    async def scenario() -> None:
        client, server, from_client, from_server = virtual_pair(TransportLimits())
        from_client.cut = from_server.cut = True
        client_end, server_end = await asyncio.gather(client.wait_closed(), server.wait_closed())
        assert client_end.by is server_end.by is EndedBy.LOCAL
        assert loop.time() == pytest.approx(TransportLimits().handshake_deadline_s, abs=0.01)
        assert from_client.counters["handshake-timeout"] == 1

    loop.run_until_complete(asyncio.wait_for(scenario(), 100))
    assert loop.turns < 2_000
