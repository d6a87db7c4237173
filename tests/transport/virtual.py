"""Two connections over a network of our own, under a clock that jumps instead of waiting."""

from __future__ import annotations

import asyncio
import datetime
import random
from collections import Counter
from collections.abc import Iterator

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.transport.support import ALPN
from transport import Connection, TransportLimits
from transport.address import SockAddr
from transport.certificate import device_key_of, make_certificate
from transport.configuration import client_configuration, server_configuration
from transport.quic import MutualQuicConnection
from transport.tls import PeerPolicy

NOW = datetime.datetime(2030, 1, 1, tzinfo=datetime.UTC)
LATENCY_S = 0.05


class JumpingLoop(asyncio.SelectorEventLoop):
    """Time stands still while anything is ready and jumps to the next timer when nothing is."""

    def __init__(self) -> None:
        super().__init__()
        self.virtual = 0.0
        self.turns = 0

    def time(self) -> float:
        return self.virtual

    def _run_once(self) -> None:
        self.turns += 1
        assert self.turns < 1_000_000, "a timer that fires early spins"
        if not self._ready:  # type: ignore[attr-defined]
            timers = [each.when() for each in self._scheduled if not each.cancelled()]  # type: ignore[attr-defined]
            self.virtual = max(self.virtual, min(timers, default=0.0))
        super()._run_once()  # type: ignore[misc]


class Pipe:
    """The network of one connection: delivers to its peer `LATENCY_S` later, or not at all.

    `payload` is the largest datagram that arrives; of all others, each is lost with chance `loss`.
    `interface` is the largest that the sender's own machine takes.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, address: SockAddr) -> None:
        self.loop = loop
        self.address = address
        self.peer: Connection | None = None
        self.cut = False
        self.payload = 65_507
        self.interface = 65_507
        self.loss = 0.0
        self.random = random.Random(7)
        self.sizes: Counter[int] = Counter()
        self.counters: Counter[str] = Counter()

    def send(self, data: bytes, to: SockAddr, *_: object) -> bool:
        if len(data) > self.interface:
            return False
        self.sizes[len(data)] += 1
        lost = len(data) > self.payload or self.random.random() < self.loss
        if not self.cut and not lost:
            self.loop.call_later(LATENCY_S, self.deliver, data)
        return True

    def deliver(self, data: bytes) -> None:
        if self.peer is not None and not self.peer.closed:
            self.peer.receive(data, self.address, self.loop.time())
            self.peer.after_receiving()

    def route(self, connection_id: bytes, connection: Connection) -> None: ...
    def unroute(self, connection_id: bytes) -> None: ...
    def handshake_completed(self, connection: Connection) -> None: ...
    def ended(self, connection: Connection) -> None: ...

    def count(self, reason: str) -> None:
        self.counters[reason] += 1


def virtual_pair(limits: TransportLimits) -> tuple[Connection, Connection, Pipe, Pipe]:
    loop = asyncio.get_running_loop()
    client_at, server_at = ("192.0.2.1", 7000), ("192.0.2.2", 7000)
    client_key, server_key = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    client_quic = MutualQuicConnection(
        configuration=client_configuration(
            client_key, make_certificate(client_key, NOW), ALPN, limits
        ),
        policy=PeerPolicy(device_key_of(server_key), lambda: NOW),
        limits=limits,
    )
    server_quic = MutualQuicConnection(
        configuration=server_configuration(
            server_key, make_certificate(server_key, NOW), [ALPN], limits
        ),
        policy=PeerPolicy(None, lambda: NOW),
        limits=limits,
        original_destination_connection_id=client_quic.original_destination_connection_id,
    )
    from_client, from_server = Pipe(loop, client_at), Pipe(loop, server_at)
    client = Connection(client_quic, from_client, dialed=True, remote=server_at, limits=limits)
    server = Connection(server_quic, from_server, dialed=False, remote=client_at, limits=limits)
    from_client.peer, from_server.peer = server, client
    client.start()
    return client, server, from_client, from_server


@pytest.fixture
def loop() -> Iterator[JumpingLoop]:
    loop = JumpingLoop()
    yield loop
    loop.close()
