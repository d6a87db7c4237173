"""Cap'n Proto as a weapon: raw messages that are small on the wire and large, deep or endless."""

from __future__ import annotations

import asyncio
import struct
import time

import pytest

from tests.transport.support import Open, eventually, within
from tests.transport.test_rpc import probe, served

pytestmark = pytest.mark.usefixtures("kj")


def message(*words: int) -> bytes:
    """One segment of these words, framed."""
    return struct.pack("<II", 0, len(words)) + struct.pack(f"<{len(words)}Q", *words)


def pointer_to_struct(offset: int, data: int, pointers: int) -> int:
    return (offset & 0x3FFF_FFFF) << 2 | data << 32 | pointers << 48


def void_list(count: int) -> int:
    """A list of `count` elements of no size: 8 bytes on the wire."""
    return 1 | count << 35


BOMBS = {
    # A root that is a far pointer to itself; one into a segment that is not there.
    "far pointer to itself": message(2 | 0 << 3),
    "far pointer to nowhere": message(2 | 7 << 32),
    "double far loop": message(2 | 1 << 2 | 0 << 3, 2 | 1 << 2 | 0 << 3),
    # A struct whose only pointer is the struct itself: endless depth.
    "struct in itself": message(pointer_to_struct(0, 0, 1), pointer_to_struct(-1, 0, 1)),
    "list out of bounds": message(pointer_to_struct(0, 1, 1), 2, 1 | 7 << 32 | 0x1FFF_FFFF << 35),
    "eight million nothings": message(pointer_to_struct(0, 1, 1), 2, void_list(8_000_000)),
    "half a thousand million": message(pointer_to_struct(0, 1, 1), 2, void_list(0x1FFF_FFFF)),
    "segments without end": struct.pack("<I", 0xFFFF_FFFF) + b"\xff" * 4_000,
    "a segment of 32 GiB": struct.pack("<II", 0, 0xFFFF_FFFF) + b"\x00" * 4_000,
}


@pytest.mark.parametrize("name", BOMBS)
async def test_a_raw_bomb_ends_its_stream_at_once(open_endpoint: Open, name: str) -> None:
    server, dialed = await served(open_endpoint)
    stream = await dialed.open_stream()
    began = time.process_time()
    await stream.write(BOMBS[name])
    await stream.finish()
    await eventually(lambda: server.ended == 1)
    assert time.process_time() - began < 1.0
    async with probe(dialed) as (service, _):
        assert (await within(service.echo(data=b"goes on"))).data == b"goes on"


async def test_half_closed_streams_are_let_go(open_endpoint: Open) -> None:
    """A client that says nothing more, and one that only stops reading: neither holds a server."""
    server, dialed = await served(open_endpoint)
    for _ in range(20):
        stream = await dialed.open_stream()
        await stream.write(b"\x00")
        await stream.finish()
    for _ in range(20):
        stream = await dialed.open_stream()
        await stream.write(b"\x00")
        stream.cancel()
    await eventually(lambda: server.ended == server.streams and server.streams >= 20)
    await within(dialed.ping())
    assert not dialed.closed


async def test_abandoned_calls_free_their_places(open_endpoint: Open) -> None:
    """A thousand calls that their callers gave up: cancelled at the server, and room for others."""
    server, dialed = await served(open_endpoint)
    async with probe(dialed) as (service, _):
        for _ in range(20):
            calls = [asyncio.create_task(service.hang()) for _ in range(50)]
            await eventually(lambda: server.probe.running == 50)
            for call in calls:
                call.cancel()
            await asyncio.gather(*calls, return_exceptions=True)
            await eventually(lambda: server.probe.running == 0)
        assert server.probe.cancelled == 1_000
        assert (await within(service.echo(data=b"room"))).data == b"room"
