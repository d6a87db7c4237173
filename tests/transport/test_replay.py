"""A proof of identity is good for one handshake: a recorded one proves nothing in another."""

from __future__ import annotations

import pytest
from aioquic import tls
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.transport.tls_by_hand import messages
from tests.transport.tls_engine import engine

CERTIFICATE, CERTIFICATE_VERIFY = 11, 15


def swapped(flight: bytes, recorded: bytes, kinds: set[int]) -> bytes:
    """`flight` with its messages of these kinds taken from the recorded one."""
    theirs = {message[0]: message for message in messages(recorded)}
    return b"".join(
        theirs[message[0]] if message[0] in kinds else message for message in messages(flight)
    )


@pytest.mark.parametrize("kinds", [{CERTIFICATE_VERIFY}, {CERTIFICATE, CERTIFICATE_VERIFY}])
def test_a_replayed_certificate_verify_of_a_dialler(kinds: set[int]) -> None:
    """The second case is the theft: another's certificate with the proof that went with it."""
    victim = Ed25519PrivateKey.generate()
    client, server = engine(is_client=True, key=victim), engine(is_client=False)
    recorded = client.feed(server.feed(client.feed(b"")))
    server.feed(recorded)
    assert server.context.proven is not None

    thief, target = engine(is_client=True), engine(is_client=False)
    flight = thief.feed(target.feed(thief.feed(b"")))
    with pytest.raises(tls.AlertDecryptError):
        target.feed(swapped(flight, recorded, kinds))
    assert target.context.proven is None


@pytest.mark.parametrize("kinds", [{CERTIFICATE_VERIFY}, {CERTIFICATE, CERTIFICATE_VERIFY}])
def test_a_replayed_certificate_verify_of_an_acceptor(kinds: set[int]) -> None:
    victim = Ed25519PrivateKey.generate()
    client, server = engine(is_client=True), engine(is_client=False, key=victim)
    recorded = server.feed(client.feed(b""))
    client.feed(recorded)
    assert client.context.proven is not None

    caller, impostor = engine(is_client=True), engine(is_client=False)
    flight = impostor.feed(caller.feed(b""))
    with pytest.raises(tls.AlertDecryptError):
        caller.feed(swapped(flight, recorded, kinds))
    assert caller.context.proven is None
