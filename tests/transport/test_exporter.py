"""Keying material of a connection: the same at both ends, of no other (RFC 8446, 7.5).

That the formula is right, test_key_exchange.py checks against a computation by hand.
"""

from __future__ import annotations

import asyncio

import pytest

from tests.transport.support import Open, pair, within
from tests.transport.tls_engine import engine, handshake

LABEL = b"EXPORTER-quicnprotochat test"


async def test_both_ends_agree_and_no_other_connection_does(open_endpoint: Open) -> None:
    dialed, accepted = await pair(open_endpoint)
    other, _ = await pair(open_endpoint)
    secret = dialed.export_keying_material(LABEL, b"context", 32)
    assert len(secret) == 32
    assert accepted.export_keying_material(LABEL, b"context", 32) == secret
    others = [
        other.export_keying_material(LABEL, b"context", 32),
        dialed.export_keying_material(LABEL, b"another", 32),
        dialed.export_keying_material(LABEL, b"", 32),
        dialed.export_keying_material(LABEL + b"2", b"context", 32),
        dialed.export_keying_material(LABEL, b"context", 64)[:32],
    ]
    assert len({secret, *others}) == 6
    await within(asyncio.gather(dialed.ping(), accepted.ping()))
    dialed.quic.request_key_update()  # the exporter is the handshake's, whatever keys follow
    await within(dialed.ping())
    assert dialed.export_keying_material(LABEL, b"context", 32) == secret


def test_sizes() -> None:
    client, server = engine(is_client=True), engine(is_client=False)
    with pytest.raises(RuntimeError):
        client.context.export_keying_material(LABEL, b"", 32)
    handshake(client, server)
    for label, length in ((b"", 32), (b"x" * 244, 32), (LABEL, 0), (LABEL, 8_161)):
        with pytest.raises(ValueError, match="bounds"):
            client.context.export_keying_material(label, b"", length)
    longest = client.context.export_keying_material(b"x" * 243, b"c" * 70_000, 8_160)
    assert longest == server.context.export_keying_material(b"x" * 243, b"c" * 70_000, 8_160)
