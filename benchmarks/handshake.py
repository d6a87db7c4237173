"""CPU of a handshake, and of a first packet that a stranger made up.

No sockets: datagrams go from one state machine to the other, so only the work is measured. Both
ends of a handshake are in the figure.
"""

from __future__ import annotations

import asyncio
import datetime
import socket
import ssl
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from typing import cast
from unittest import mock

from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from benchmarks.report import Row
from transport.address import SockAddr
from transport.certificate import device_key_of, make_certificate
from transport.configuration import client_configuration, server_configuration
from transport.connection import Connection
from transport.endpoint import Endpoint
from transport.key_exchange import Group
from transport.limits import DEFAULT_LIMITS, TransportLimits
from transport.quic import MutualQuicConnection
from transport.tls import PeerPolicy

NOW = datetime.datetime(2030, 1, 1, tzinfo=datetime.UTC)
ALPN = "quicnprotochat/benchmark"
AT: SockAddr = ("192.0.2.1", 7000)
CLIENT_KEY, SERVER_KEY = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
CLIENT_CERTIFICATE = make_certificate(CLIENT_KEY, NOW)
SERVER_CERTIFICATE = make_certificate(SERVER_KEY, NOW)


def rows(quick: bool) -> list[Row]:
    rounds = 60 if quick else 400
    costs = _alternating(
        {
            "hybrid": lambda: _handshake(_ours, "X25519MLKEM768"),
            "x25519": _x25519_handshake,
            "plain": lambda: _handshake(_plain, ""),
        },
        rounds,
    )
    first = asyncio.run(_first_packets(100 if quick else 1_000))
    hybrid, x25519, plain = costs["hybrid"], costs["x25519"], costs["plain"]
    us = "µs CPU"
    return [
        Row(
            "handshake with ML-KEM, both ends",
            hybrid,
            us,
            x25519,
            "ours, X25519",
            target=1.25,
            at_least=False,
        ),
        Row("handshake with ML-KEM, both ends", hybrid, us, plain, "plain aioquic, one-sided"),
        Row("handshake with X25519, both ends", x25519, us, plain, "plain aioquic, one-sided"),
        Row("made-up first packet, with Retry", first["retry"], us, first["served"], "served"),
        Row("first packet that does not decrypt", first["broken"], us, first["served"], "served"),
    ]


def _alternating(work: dict[str, Callable[[], None]], rounds: int) -> dict[str, float]:
    """Median CPU per run in µs, in turns, so that noise hits all alike."""
    taken: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(rounds):
        for name, run in work.items():
            started = time.process_time()
            run()
            taken[name].append(time.process_time() - started)
    return {name: statistics.median(each) * 1e6 for name, each in taken.items()}


def _ours(original_id: bytes | None) -> QuicConnection:
    is_client = original_id is None
    if is_client:
        configuration = client_configuration(CLIENT_KEY, CLIENT_CERTIFICATE, ALPN, DEFAULT_LIMITS)
    else:
        configuration = server_configuration(SERVER_KEY, SERVER_CERTIFICATE, [ALPN], DEFAULT_LIMITS)
    return MutualQuicConnection(
        configuration=configuration,
        policy=PeerPolicy(device_key_of(SERVER_KEY) if is_client else None, lambda: NOW),
        limits=DEFAULT_LIMITS,
        original_destination_connection_id=original_id,
    )


def _plain(original_id: bytes | None) -> QuicConnection:
    is_client = original_id is None
    return QuicConnection(
        configuration=QuicConfiguration(
            alpn_protocols=[ALPN],
            is_client=is_client,
            verify_mode=ssl.CERT_NONE,
            certificate=None if is_client else SERVER_CERTIFICATE,
            private_key=None if is_client else SERVER_KEY,
        ),
        original_destination_connection_id=original_id,
    )


def _x25519_handshake() -> None:
    with mock.patch("transport.hello.PREFERENCE", (Group.X25519,)):
        _handshake(_ours, "X25519")


def _handshake(make: Callable[[bytes | None], QuicConnection], group: str) -> None:
    client = make(None)
    client.connect(AT, now=0.0)
    server = make(client.original_destination_connection_id)
    ends = [client, server]
    for _ in range(3):
        for sender, receiver in (ends, ends[::-1]):
            for data, _ in sender.datagrams_to_send(now=0.0):
                receiver.receive_datagram(data, AT, now=0.0)
    for end in ends:
        if not end._handshake_complete:
            raise RuntimeError("the handshake did not finish")
        if isinstance(end, MutualQuicConnection) and end.key_exchange != group:
            raise RuntimeError(f"{end.key_exchange} was agreed on")


class _Inbox:
    """A socket that has what we put in, and sends into the void."""

    def __init__(self, datagrams: list[bytes]) -> None:
        self.datagrams = datagrams[::-1]

    def recvfrom(self, _: int) -> tuple[bytes, SockAddr]:
        if not self.datagrams:
            raise BlockingIOError
        return self.datagrams.pop(), AT

    def sendto(self, data: bytes, _: SockAddr) -> int:
        return len(data)

    def getsockname(self) -> SockAddr:
        return AT

    def close(self) -> None: ...


async def _first_packets(number: int) -> dict[str, float]:
    """Median CPU in µs of what one costs an endpoint."""
    no_limit = replace(
        DEFAULT_LIMITS,
        datagrams_per_wake=1,
        retry_from_half_open=number + 1,
        first_packets_per_s=1e9,
    )
    made_up = [_fake_initial() for _ in range(number)]
    broken = [data[:100] + bytes(50) + data[150:] for data in made_up]
    return {
        "served": await _cost(made_up, no_limit),
        "broken": await _cost(broken, no_limit),
        "retry": await _cost(made_up, replace(no_limit, retry_from_half_open=0)),
    }


async def _cost(datagrams: list[bytes], limits: TransportLimits) -> float:
    inbox = _Inbox(datagrams)

    async def nobody(_: Connection) -> None: ...

    endpoint = Endpoint(SERVER_KEY, cast(socket.socket, inbox), {ALPN: nobody}, limits, lambda: NOW)
    taken = []
    while inbox.datagrams:
        started = time.process_time()
        endpoint._on_readable()
        taken.append(time.process_time() - started)
    for connection in list(endpoint._ids):
        connection.abort()
    return statistics.median(taken) * 1e6


def _fake_initial() -> bytes:
    client = _plain(None)
    client.connect(AT, now=0.0)
    return client.datagrams_to_send(now=0.0)[0][0]
