"""Frames: what a peer's messages come in."""

from __future__ import annotations

import asyncio
import os

import pytest

from schemas.errors import Malformed
from tests.transport.support import Open, pair, within
from transport import FrameStream, Stream, read_frame, write_frame


async def framed(open_endpoint: Open, max_read: int = 65_535) -> tuple[Stream, FrameStream]:
    """Our bare stream, and the peer's end as frames."""
    dialed, accepted = await pair(open_endpoint)
    ours = await dialed.open_stream()
    await write_frame(ours, b"hello")
    theirs = FrameStream(await within(accepted.accept_stream()), max_read=max_read)
    assert await within(theirs.read()) == b"hello"
    return ours, theirs


async def test_sizes_both_ways(open_endpoint: Open) -> None:
    ours, theirs = await framed(open_endpoint, max_read=1 << 20)
    mine = FrameStream(ours, max_read=1 << 20)
    payloads = [b"", b"x", os.urandom(1_000), os.urandom(65_536), os.urandom(1 << 20)]

    async def send(frames: FrameStream) -> None:
        for payload in payloads:
            await frames.write(payload)
        await frames.finish()

    async def receive(frames: FrameStream) -> list[bytes]:
        got = []
        while (payload := await frames.read()) is not None:
            got.append(payload)
        return got

    _, _, there, back = await within(
        asyncio.gather(send(mine), send(theirs), receive(theirs), receive(mine))
    )
    assert there == back == payloads


async def test_ten_thousand_small_frames(open_endpoint: Open) -> None:
    ours, theirs = await framed(open_endpoint)
    count = 10_000

    async def send() -> None:
        for index in range(count):
            await write_frame(ours, index.to_bytes(4, "big"))
        await ours.finish()

    async def receive() -> int:
        index = 0
        while (payload := await theirs.read()) is not None:
            assert payload == index.to_bytes(4, "big")
            index += 1
        return index

    _, got = await within(asyncio.gather(send(), receive()))
    assert got == count


async def test_reading_frame_by_frame_takes_no_byte_more(open_endpoint: Open) -> None:
    dialed, accepted = await pair(open_endpoint)
    ours = await dialed.open_stream()
    await ours.write(b"\x03\x00\x00\x00abc\x00\x00\x00\x00raw")
    await ours.finish()
    theirs = await within(accepted.accept_stream())
    assert await within(read_frame(theirs, 3)) == b"abc"
    assert await within(read_frame(theirs, 3)) == b""
    assert await within(theirs.read()) == b"raw"
    assert await within(read_frame(theirs, 3)) is None


@pytest.mark.parametrize("sent", [b"\x01", b"\x05\x00\x00\x00", b"\x05\x00\x00\x00abcd"])
async def test_truncated(open_endpoint: Open, sent: bytes) -> None:
    for buffered in (True, False):
        ours, theirs = await framed(open_endpoint)
        await ours.write(sent)
        await ours.finish()
        with pytest.raises(Malformed) as caught:
            await within(theirs.read() if buffered else read_frame(theirs.stream, 100))
        assert caught.value.code == "frame-truncated"


@pytest.mark.parametrize("length", [65_536, 0x7FFFFFFF, 0xFFFFFFFF])
async def test_too_large_is_refused_before_it_is_read(open_endpoint: Open, length: int) -> None:
    for buffered in (True, False):
        ours, theirs = await framed(open_endpoint)
        await ours.write(length.to_bytes(4, "little"))
        with pytest.raises(Malformed) as caught:
            await within(theirs.read() if buffered else read_frame(theirs.stream, 65_535))
        assert caught.value.code == "frame-too-large"


async def test_the_limit_can_be_raised_after_hello(open_endpoint: Open) -> None:
    ours, theirs = await framed(open_endpoint, max_read=5)
    theirs.max_read = 100
    await write_frame(ours, bytes(100))
    assert await within(theirs.read()) == bytes(100)
