"""`quiet` against aioquic itself: it never says so while aioquic has something to send."""

from __future__ import annotations

import asyncio
import random

import pytest
from aioquic.quic.connection import QuicConnection

from tests.transport.virtual import JumpingLoop, virtual_pair
from transport import Connection, Stream, StreamReset, TransportLimits
from transport.send_gate import GatedConnection

LIMITS = TransportLimits(
    stream_buffer=32_768, connection_buffer=131_072, max_streams=8, stream_deadline_s=1_000
)


@pytest.fixture
def checked(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Every quiet moment is compared with what aioquic would have sent."""
    seen = {"quiet": 0, "busy": 0}
    says = GatedConnection.quiet

    def quiet(self: GatedConnection, now: float) -> bool:
        if not says(self, now):
            seen["busy"] += 1
            return False
        seen["quiet"] += 1
        self._pacer.reset()
        assert QuicConnection.datagrams_to_send(self, now) == [], "quiet, and had something to say"
        return True

    monkeypatch.setattr(GatedConnection, "quiet", quiet)
    return seen


@pytest.mark.parametrize("seed", range(6))
def test_quiet_means_nothing_to_send(loop: JumpingLoop, checked: dict[str, int], seed: int) -> None:
    dice = random.Random(seed)

    async def serve(stream: Stream) -> None:
        try:
            size = 0
            while data := await stream.read(dice.choice((100, 5_000, 65_536))):
                size += len(data)
            await stream.write(bytes(size))  # not before: two echoes could wait for each other
            await stream.finish()
        except StreamReset:
            stream.cancel()

    async def accept(connection: Connection, tasks: asyncio.TaskGroup) -> None:
        while True:
            tasks.create_task(serve(await connection.accept_stream()))

    async def read_slowly(stream: Stream) -> None:
        try:
            while await stream.read():
                await asyncio.sleep(dice.choice((0, 0, 0.05)))
        except StreamReset:
            stream.cancel()

    async def one(connection: Connection) -> None:
        stream = await connection.open_stream()
        fate = dice.random()
        if fate < 0.2:
            await stream.write(bytes(300))
            stream.reset(3)
            if fate < 0.1:
                stream.stop(4)
                return
        reading = asyncio.create_task(read_slowly(stream))
        if fate >= 0.2:
            await stream.write(bytes(dice.choice((1, 300, 20_000, 150_000))))
            await stream.finish()
        await reading

    async def scenario() -> None:
        client, server, to_server, to_client = virtual_pair(LIMITS)
        to_server.loss = to_client.loss = dice.choice((0.0, 0.05, 0.2))
        await client.wait_established()
        async with asyncio.TaskGroup() as tasks:
            serving = [tasks.create_task(accept(each, tasks)) for each in (client, server)]
            await asyncio.gather(*(one(dice.choice((client, server))) for _ in range(30)))
            client.quic.change_connection_id()
            await client.ping(20)
            await server.ping(20)
            for task in serving:
                task.cancel()
        assert not client.closed
        assert not server.closed

    loop.run_until_complete(asyncio.wait_for(scenario(), 10_000))
    assert checked["quiet"] > 10
    assert checked["busy"] > 10
