"""Our shell beside aioquic's own asyncio protocol: same work, certificates, process arrangement.

Each side is a server and a client in one process and one event loop over loopback UDP, so the
figures are of CPU; the sides alternate and the best of each is taken, since noise only slows down.
"""

from __future__ import annotations

import asyncio
import datetime
import ssl
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Protocol

from aioquic.asyncio.client import connect
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.asyncio.server import serve
from aioquic.quic.configuration import QuicConfiguration
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from benchmarks.report import Row
from transport import Address, Connection, Endpoint, FrameStream, Stream
from transport.certificate import make_certificate

ALPN = "benchmark"
MESSAGE = bytes(256)
CHUNK = bytes(65_536)
REFERENCE = "aioquic asyncio"
_LENGTH = struct.Struct("<I")
_FRAME = _LENGTH.pack(len(MESSAGE)) + MESSAGE


class Link(Protocol):
    """One connection of either side, with the three workloads on it."""

    async def frames(self, count: int) -> None:
        """`count` framed messages of 256 B on one stream, until the peer has parsed the last."""

    async def bulk(self, size: int) -> None:
        """`size` bytes on one stream, until the peer has read them all."""

    async def requests(self, count: int, at_once: int = 1) -> None:
        """`count` times 256 B there and back, each on a stream of its own, `at_once` at a time."""


# Ours


class _Ours:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def frames(self, count: int) -> None:
        stream = await self._open(b"f")
        framed = FrameStream(stream)
        for _ in range(count):
            await framed.write(MESSAGE)
        await framed.finish()
        await _read_to_end(stream)

    async def bulk(self, size: int) -> None:
        stream = await self._open(b"b")
        for _ in range(size // len(CHUNK)):
            await stream.write(CHUNK)
        await stream.finish()
        await _read_to_end(stream)

    async def requests(self, count: int, at_once: int = 1) -> None:
        async def some() -> None:
            for _ in range(count // at_once):
                stream = await self._open(b"r")
                await stream.write(MESSAGE)
                await stream.finish()
                assert await _read_to_end(stream) == len(MESSAGE)

        await asyncio.gather(*(some() for _ in range(at_once)))

    async def _open(self, kind: bytes) -> Stream:
        stream = await self._connection.open_stream()
        await stream.write(kind)
        return stream


async def _read_to_end(stream: Stream) -> int:
    size = 0
    while data := await stream.read():
        size += len(data)
    return size


async def _serve_ours(connection: Connection) -> None:
    async def one(stream: Stream) -> None:
        kind = await stream.read(1)
        if kind == b"f":
            framed = FrameStream(stream)
            while await framed.read() is not None:
                pass
            await stream.finish()
            return
        size = await _read_to_end(stream)
        if kind == b"r":
            await stream.write(bytes(size))
        await stream.finish()

    async with asyncio.TaskGroup() as tasks:
        while True:
            tasks.create_task(one(await connection.accept_stream()))


@asynccontextmanager
async def ours() -> AsyncIterator[Link]:
    """Two endpoints of ours on loopback, connected."""
    loopback = Address("127.0.0.1", 0)
    server = await Endpoint.open(
        Ed25519PrivateKey.generate(), loopback, handlers={ALPN: _serve_ours}
    )
    client = await Endpoint.open(Ed25519PrivateKey.generate(), loopback, handlers={})
    try:
        connection = await client.dial([server.address], expected=server.device, alpn=ALPN)
        yield _Ours(connection)
    finally:
        await client.close()
        await server.close()


# The reference


class _Reference:
    def __init__(self, protocol: QuicConnectionProtocol) -> None:
        self._protocol = protocol

    async def frames(self, count: int) -> None:
        reader, writer = await self._open(b"f")
        for number in range(count):
            writer.write(_FRAME)
            if number % 16 == 0:
                await asyncio.sleep(0)  # or nothing is sent before all is queued
        writer.write_eof()
        await reader.read()

    async def bulk(self, size: int) -> None:
        reader, writer = await self._open(b"b")
        for _ in range(size // len(CHUNK)):
            writer.write(CHUNK)
            await asyncio.sleep(0)
        writer.write_eof()
        await reader.read()

    async def requests(self, count: int, at_once: int = 1) -> None:
        async def some() -> None:
            for _ in range(count // at_once):
                reader, writer = await self._open(b"r")
                writer.write(MESSAGE)
                writer.write_eof()
                assert len(await reader.read()) == len(MESSAGE)

        await asyncio.gather(*(some() for _ in range(at_once)))

    async def _open(self, kind: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await self._protocol.create_stream()
        writer.write(kind)
        return reader, writer


_running: set[asyncio.Task[None]] = set()


def _serve_reference(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    async def one() -> None:
        kind = await reader.readexactly(1)
        if kind == b"f":
            try:
                while True:
                    (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
                    await reader.readexactly(length)
            except asyncio.IncompleteReadError:
                pass
        else:
            size = 0
            while data := await reader.read(65_536):
                size += len(data)
            if kind == b"r":
                writer.write(bytes(size))
        writer.write_eof()

    task = asyncio.get_running_loop().create_task(one())
    _running.add(task)
    task.add_done_callback(_running.discard)


def _reference_configuration(*, is_client: bool) -> QuicConfiguration:
    key = Ed25519PrivateKey.generate()
    return QuicConfiguration(
        alpn_protocols=[ALPN],
        is_client=is_client,
        certificate=make_certificate(key, datetime.datetime.now(datetime.UTC)),
        private_key=key,
        verify_mode=ssl.CERT_NONE,
    )


@asynccontextmanager
async def reference() -> AsyncIterator[Link]:
    """aioquic's `serve` and `connect` with their defaults and the same kind of certificate."""
    server = await serve(
        "127.0.0.1",
        0,
        configuration=_reference_configuration(is_client=False),
        stream_handler=_serve_reference,
    )
    bound = server._transport  # it offers no other way to a free port
    assert bound is not None
    port = bound.get_extra_info("sockname")[1]
    try:
        async with connect(
            "127.0.0.1", port, configuration=_reference_configuration(is_client=True)
        ) as protocol:
            yield _Reference(protocol)
    finally:
        server.close()


# Measuring

Work = Callable[[Link], Awaitable[None]]


async def _seconds(side: Callable[[], object], work: Work) -> float:
    async with side() as link:  # type: ignore[attr-defined]
        await link.requests(20)  # warm: the handshake is over, the path MTU known
        await link.bulk(2 * 1024 * 1024)
        started = time.perf_counter()
        await work(link)
        return time.perf_counter() - started


def _pair(work: Work, rounds: int) -> tuple[float, float]:
    best = {ours: float("inf"), reference: float("inf")}
    for _ in range(rounds):
        for side in best:
            best[side] = min(best[side], asyncio.run(_seconds(side, work)))
    return best[ours], best[reference]


def rows(quick: bool) -> list[Row]:
    """Framed messages, bulk and request/response, ours beside aioquic's asyncio protocol."""
    rounds = 2 if quick else 5
    frames, size, requests = (5_000, 4, 200) if quick else (50_000, 32, 2_000)
    size *= 1024 * 1024
    mine, theirs = _pair(lambda link: link.frames(frames), rounds)
    found = [
        Row(
            "framed messages, 256 B, one stream",
            frames / mine,
            "msg/s",
            beside=frames / theirs,
            reference=REFERENCE,
            target=4.0,
        )
    ]
    mine, theirs = _pair(lambda link: link.bulk(size), rounds)
    found.append(
        Row(
            "bulk, one stream, loopback",
            size / mine / 1e6,
            "MB/s",
            beside=size / theirs / 1e6,
            reference=REFERENCE,
            target=5.0,
        )
    )
    for at_once in (1, 16):
        mine, theirs = _pair(lambda link, n=at_once: link.requests(requests, n), rounds)  # type: ignore[misc]
        found.append(
            Row(
                f"request/response, 256 B, a stream each, {at_once} at once",
                requests / mine,
                "req/s",
                beside=requests / theirs,
                reference=REFERENCE,
                target=1.3,
            )
        )
    return found
