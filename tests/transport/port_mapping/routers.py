"""Routers by hand, on loopback addresses of their own: as good or as bad as a test wants them."""

from __future__ import annotations

import asyncio
import itertools
import os
import struct
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import cast

from schemas.addresses import Address
from transport.port_mapping import MappingLimits, Outcome, PortMapper
from transport.port_mapping.exchange import PORT
from transport.port_mapping.values import Gateway

OWN = "127.0.0.1"
QUICK = MappingLimits(
    tries_s=(0.02, 0.04),
    again_first_s=0.05,
    look_s=0.02,
    hint_s=0.0,
    search_s=0.3,
    http_s=2.0,
    upnp_s=4.0,
)
_V4 = b"\0" * 10 + b"\xff\xff"
_numbers = itertools.count(os.getpid() * 16)  # tests of several runs do not meet

Answer = Callable[[bytes], Iterable[bytes]]
"""What is sent back for a request."""


def new_host() -> str:
    number = next(_numbers)
    return f"127.{number >> 16 & 127 | 128}.{number >> 8 & 255}.{number & 255 or 1}"


class Datagrams(asyncio.DatagramProtocol):
    """Answers each datagram, and keeps what came."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.requests: list[bytes] = []
        self.asker = ("", 0)
        self.transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.requests.append(data)
        self.asker = addr
        for each in self.answer(data):
            self.send(each, addr)

    def send(self, data: bytes, to: tuple[str, int]) -> None:
        assert self.transport is not None
        self.transport.sendto(data, to)


@asynccontextmanager
async def datagrams(host: str, port: int, answer: Answer) -> AsyncIterator[Datagrams]:
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.create_datagram_endpoint(
        lambda: Datagrams(answer), local_addr=(host, port)
    )
    try:
        yield protocol
    finally:
        transport.close()


@asynccontextmanager
async def router(answer: Answer) -> AsyncIterator[tuple[Gateway, Datagrams]]:
    """Speaks what `answer` does on the port of PCP and NAT-PMP."""
    host = new_host()
    async with datagrams(host, PORT, answer) as protocol:
        yield Gateway(host, OWN), protocol


def pcp(request: bytes, *, host: str = "11.0.0.2", port: int = 0, life: int = 0) -> bytes:
    """The answer of an honest router to a MAP request, but for what is asked."""
    wanted = struct.unpack_from("!L", request, 4)[0]
    header = struct.pack("!BBxBLL12x", 2, 0x81, 0, life or wanted, 1_000)
    nonce, protocol, internal, external, _ = struct.unpack_from("!12sB3xHH16s", request, 24)
    packed = _V4 + bytes(map(int, host.split(".")))
    return header + struct.pack(
        "!12sB3xHH16s", nonce, protocol, internal, port or external or internal, packed
    )


def pcp_only(request: bytes) -> Iterable[bytes]:
    return [pcp(request)] if request[0] == 2 else []


def nat_pmp_only(request: bytes) -> Iterable[bytes]:
    if request[0] != 0:
        yield struct.pack("!BBHL", 0, 0x80 | request[1], 1, 1_000)
    elif request[1] == 0:
        yield struct.pack("!BBHL4B", 0, 0x80, 0, 1_000, 11, 0, 0, 3)
    else:
        internal, wish, life = struct.unpack_from("!HHL", request, 4)
        yield struct.pack("!BBHLHHL", 0, 0x81, 0, 1_000, internal, wish and wish + 1, life)


def silent(_: bytes) -> Iterable[bytes]:
    return ()


class Watched:
    """A PortMapper and what it told."""

    def __init__(self, gateways: Callable[[], list[Gateway]], limits: MappingLimits) -> None:
        self.counters: Counter[str] = Counter()
        self.told: asyncio.Queue[Outcome] = asyncio.Queue()
        self.mapper = PortMapper(
            Address("0.0.0.0", 7000),
            self.told.put_nowait,
            self.counters,
            limits=limits,
            gateways=lambda bound: gateways(),
        )

    async def next(self) -> Outcome:
        async with asyncio.timeout(5):
            return await self.told.get()


@asynccontextmanager
async def watched(
    *gateways: Gateway, limits: MappingLimits = QUICK, now: list[Gateway] | None = None
) -> AsyncIterator[Watched]:
    """`now` may change while it runs."""
    found = Watched(lambda: list(gateways) if now is None else list(now), limits)
    found.mapper.start()
    try:
        yield found
    finally:
        await found.mapper.close()
