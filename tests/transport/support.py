"""What the transport's tests share: endpoints on loopback, deadlines instead of sleeps."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from transport import Address, Connection, Endpoint, TransportLimits

T = TypeVar("T")

ALPN = "quicnprotochat/test"
LOOPBACK = Address("127.0.0.1", 0)
QUICK = TransportLimits(
    handshake_deadline_s=3.0,
    idle_timeout_s=1.0,
    keep_alive_s=0.25,
    dial_deadline_s=4.0,
    close_grace_s=0.2,
    mtu_search_from=0,
)


async def within(work: Awaitable[T], seconds: float = 10.0) -> T:
    """Wait for an event with a deadline; a test that hangs says where."""
    async with asyncio.timeout(seconds):
        return await work


async def eventually(condition: Callable[[], object], seconds: float = 5.0) -> None:
    """Wait for state that no event announces (another endpoint's bookkeeping)."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.002)


class Open:
    """Opens endpoints that are closed at the end of the test."""

    def __init__(self) -> None:
        self.endpoints: list[Endpoint] = []

    async def __call__(
        self,
        handler: Callable[[Connection], Awaitable[None]] | None = None,
        *,
        key: Ed25519PrivateKey | None = None,
        listen: Address = LOOPBACK,
        limits: TransportLimits = QUICK,
        alpn: str = ALPN,
    ) -> Endpoint:
        endpoint = await Endpoint.open(
            key or Ed25519PrivateKey.generate(),
            listen,
            handlers={} if handler is None else {alpn: handler},
            limits=limits,
        )
        self.endpoints.append(endpoint)
        return endpoint


class Inbox:
    """A handler that hands its connections to the test and keeps them open."""

    def __init__(self) -> None:
        self.connections: asyncio.Queue[Connection] = asyncio.Queue()

    async def __call__(self, connection: Connection) -> None:
        self.connections.put_nowait(connection)
        await connection.wait_closed()

    async def next(self) -> Connection:
        return await within(self.connections.get())


async def pair(
    open_endpoint: Open, limits: TransportLimits = QUICK
) -> tuple[Connection, Connection]:
    """A dialled connection and its other end."""
    inbox = Inbox()
    server = await open_endpoint(inbox, limits=limits)
    client = await open_endpoint(limits=limits)
    dialed = await within(client.dial([server.address], expected=server.device, alpn=ALPN))
    return dialed, await inbox.next()
