"""Who is at the other end. Each test here fails if the hook into aioquic's TLS stops working."""

from __future__ import annotations

import asyncio
import datetime
import importlib.metadata
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from aioquic.asyncio.client import connect
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.asyncio.server import serve
from aioquic.quic.configuration import QuicConfiguration
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.x509.oid import NameOID

from schemas.errors import Blame, Fault, Malformed, Refused, Unreachable
from schemas.ids import DeviceKey
from tests.transport.support import ALPN, LOOPBACK, Inbox, Open, eventually, within
from transport import Address, ConnectionLost, Endpoint
from transport.address import address_of_socket
from transport.certificate import check_certificate_untrusted, device_key_of, make_certificate
from transport.quic import MutualQuicConnection

NOW = datetime.datetime.now(datetime.UTC)
MONTH = datetime.timedelta(days=30)


def foreign_certificate(
    public: object, signer: object, algorithm: hashes.HashAlgorithm | None = None
) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "x")])
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(public)  # type: ignore[arg-type]
        .serial_number(1)
        .not_valid_before(NOW - MONTH)
        .not_valid_after(NOW + MONTH)
        .sign(signer, algorithm)  # type: ignore[arg-type]
    )


async def test_both_sides_learn_each_others_key(open_endpoint: Open) -> None:
    inbox_a, inbox_b = Inbox(), Inbox()
    a, b = await open_endpoint(inbox_a), await open_endpoint(inbox_b)
    to_b, to_a = await within(
        asyncio.gather(
            a.dial([b.address], expected=b.device, alpn=ALPN),
            b.dial([a.address], expected=a.device, alpn=ALPN),
        )
    )
    from_a, from_b = await inbox_b.next(), await inbox_a.next()
    assert (to_b.peer, from_b.peer) == (b.device, b.device)
    assert (to_a.peer, from_a.peer) == (a.device, a.device)
    # One socket each: the peer sees the dialler at the address on which it listens.
    assert from_a.remote == a.address
    assert from_b.remote == b.address
    assert to_b.alpn == from_a.alpn == ALPN
    assert to_b.key_exchange == from_a.key_exchange == "X25519MLKEM768"
    assert to_b.dialed
    assert not from_a.dialed


async def test_wrong_pin_fails_closed(open_endpoint: Open) -> None:
    inbox = Inbox()
    server, client = await open_endpoint(inbox), await open_endpoint()
    other = device_key_of(Ed25519PrivateKey.generate())
    with pytest.raises(Refused) as caught:
        await within(client.dial([server.address], expected=other, alpn=ALPN))
    assert caught.value.code == "wrong-peer"
    assert caught.value.blame is Blame.PEER
    assert client.connections == []
    # The one who answered saw no certificate, no data, and not whom we meant to reach.
    await eventually(lambda: server.counters["handshake-failed"] == 1)
    assert inbox.connections.empty()
    assert server.connections == []


async def test_dial_needs_a_pin(open_endpoint: Open) -> None:
    client = await open_endpoint()
    with pytest.raises(TypeError):
        await client.dial([LOOPBACK], expected=None, alpn=ALPN)  # type: ignore[arg-type]


async def test_wrong_alpn(open_endpoint: Open) -> None:
    server, client = await open_endpoint(Inbox()), await open_endpoint()
    with pytest.raises(Refused) as caught:
        await within(client.dial([server.address], expected=server.device, alpn="capnp"))
    assert caught.value.code == "wrong-alpn"
    assert caught.value.blame is Blame.INCOMPATIBLE


def plain_client(
    certificate: x509.Certificate | None = None, key: object = None, alpn: str = ALPN
) -> QuicConfiguration:
    """The configuration of an unmodified aioquic client that trusts anybody."""
    return QuicConfiguration(
        alpn_protocols=[alpn],
        is_client=True,
        verify_mode=ssl.CERT_NONE,
        certificate=certificate,
        private_key=key,
        supported_versions=[1],
    )


async def refused(configuration: QuicConfiguration, server: Endpoint, counted: str) -> None:
    """An unmodified aioquic client is turned away, and the reason is counted."""
    host, port = server.address

    async def attempt() -> None:
        async with connect(host, port, configuration=configuration) as protocol:
            # A client is done before the server has judged it: the next round trip tells.
            await protocol.ping()

    with pytest.raises(ConnectionError):
        await within(attempt())
    await eventually(lambda: server.counters[counted] == 1)
    assert server.connections == []


async def test_unmodified_client_without_certificate_is_refused(open_endpoint: Open) -> None:
    inbox = Inbox()
    server = await open_endpoint(inbox)
    await refused(plain_client(), server, "handshake-no-client-certificate")
    assert inbox.connections.empty()


def _wrong_signature_key() -> tuple[x509.Certificate, object]:
    victim, thief = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    return make_certificate(victim, NOW), thief  # a replayed certificate without its key


def _certificate_signed_by_another() -> tuple[x509.Certificate, object]:
    mine, other = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    return foreign_certificate(mine.public_key(), other), mine


def _expired() -> tuple[x509.Certificate, object]:
    key = Ed25519PrivateKey.generate()
    return make_certificate(key, NOW - MONTH), key


def _not_yet_valid() -> tuple[x509.Certificate, object]:
    key = Ed25519PrivateKey.generate()
    return make_certificate(key, NOW + MONTH), key


def _ecdsa() -> tuple[x509.Certificate, object]:
    key = ec.generate_private_key(ec.SECP256R1())
    return foreign_certificate(key.public_key(), key, hashes.SHA256()), Ed25519PrivateKey.generate()


def _rsa() -> tuple[x509.Certificate, object]:
    key = rsa.generate_private_key(65537, 2048)
    return foreign_certificate(key.public_key(), key, hashes.SHA256()), Ed25519PrivateKey.generate()


@pytest.mark.parametrize(
    "made, counted",
    [
        (_wrong_signature_key, "handshake-failed"),
        (_certificate_signed_by_another, "handshake-certificate-signature"),
        (_expired, "handshake-certificate-expired"),
        (_not_yet_valid, "handshake-certificate-not-yet-valid"),
        (_ecdsa, "handshake-certificate-not-ed25519"),
        (_rsa, "handshake-certificate-not-ed25519"),
    ],
)
async def test_bad_client_certificates_are_refused(
    open_endpoint: Open, made: Callable[[], tuple[x509.Certificate, object]], counted: str
) -> None:
    inbox = Inbox()
    server = await open_endpoint(inbox)
    certificate, key = made()
    await refused(plain_client(certificate, key), server, counted)
    assert inbox.connections.empty()


async def test_a_chain_of_certificates_is_refused(open_endpoint: Open) -> None:
    server = await open_endpoint(Inbox())
    key = Ed25519PrivateKey.generate()
    configuration = plain_client(make_certificate(key, NOW), key)
    configuration.certificate_chain = [make_certificate(key, NOW)]
    await refused(configuration, server, "handshake-certificate-malformed")


async def test_unmodified_client_with_a_key_of_its_own_is_known_by_it(open_endpoint: Open) -> None:
    inbox = Inbox()
    server = await open_endpoint(inbox)
    key = Ed25519PrivateKey.generate()
    host, port = server.address
    async with connect(host, port, configuration=plain_client(make_certificate(key, NOW), key)):
        assert (await inbox.next()).peer == device_key_of(key)


@asynccontextmanager
async def plain_server(key: Ed25519PrivateKey) -> AsyncIterator[Address]:
    """An unmodified aioquic server: it asks for no client certificate."""
    created: list[QuicConnectionProtocol] = []

    def protocol(*args: object, **kwargs: object) -> QuicConnectionProtocol:
        created.append(QuicConnectionProtocol(*args, **kwargs))  # type: ignore[arg-type]
        return created[-1]

    server = await serve(
        "127.0.0.1",
        0,
        configuration=QuicConfiguration(
            alpn_protocols=[ALPN],
            is_client=False,
            certificate=make_certificate(key, NOW),
            private_key=key,
        ),
        create_protocol=protocol,
    )
    transport = server._transport
    assert transport is not None
    try:
        yield address_of_socket(transport.get_extra_info("sockname"))
    finally:
        server.close()
        for each in created:
            if each._timer is not None:
                each._timer.cancel()


async def test_a_server_that_asks_for_no_certificate_is_refused(open_endpoint: Open) -> None:
    client = await open_endpoint()
    key = Ed25519PrivateKey.generate()
    async with plain_server(key) as address:
        with pytest.raises(Refused) as caught:
            await within(client.dial([address], expected=device_key_of(key), alpn=ALPN))
    assert caught.value.code == "certificate-refused"
    assert client.counters["handshake-no-certificate-request"] == 1


@pytest.mark.parametrize(
    "made, counted",
    [
        (_wrong_signature_key, "handshake-failed"),
        (_certificate_signed_by_another, "handshake-certificate-signature"),
        (_expired, "handshake-certificate-expired"),
        (_not_yet_valid, "handshake-certificate-not-yet-valid"),
        (_ecdsa, "handshake-certificate-not-ed25519"),
        (_rsa, "handshake-certificate-not-ed25519"),
    ],
)
async def test_bad_server_certificates_are_refused(
    open_endpoint: Open,
    monkeypatch: pytest.MonkeyPatch,
    made: Callable[[], tuple[x509.Certificate, object]],
    counted: str,
) -> None:
    inbox = Inbox()
    server, client = await open_endpoint(inbox), await open_endpoint()
    certificate, key = made()
    monkeypatch.setattr(server, "_key", key)
    monkeypatch.setattr(server._certificate, "current", lambda: certificate)
    public = certificate.public_key()
    raw = public.public_bytes_raw() if hasattr(public, "public_bytes_raw") else bytes(32)
    with pytest.raises(Refused) as caught:
        await within(client.dial([server.address], expected=DeviceKey(raw), alpn=ALPN))
    assert caught.value.code == "certificate-refused"
    assert client.counters[counted] == 1
    assert inbox.connections.empty()


async def test_our_own_bad_certificate_ends_the_connection_with_the_reason(
    open_endpoint: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The dialler is done one flight before the server judges it: the refusal arrives after."""
    server, client = await open_endpoint(Inbox()), await open_endpoint()
    certificate, key = _expired()
    monkeypatch.setattr(client, "_key", key)
    monkeypatch.setattr(client._certificate, "current", lambda: certificate)
    connection = await within(client.dial([server.address], expected=server.device, alpn=ALPN))
    reason = await within(connection.wait_closed())
    assert reason.text == "certificate-expired"
    with pytest.raises(ConnectionLost):
        await connection.open_stream()


async def test_certificates_are_renewed(open_endpoint: Open) -> None:
    clock = [NOW]
    endpoint = await Endpoint.open(
        Ed25519PrivateKey.generate(), LOOPBACK, handlers={}, utc_now=lambda: clock[0]
    )
    first = endpoint._certificate.current()
    assert endpoint._certificate.current() is first
    clock[0] += datetime.timedelta(days=2)
    second = endpoint._certificate.current()
    assert second is not first
    clock[0] -= datetime.timedelta(days=20)  # a clock set back must not leave us with the future
    third = endpoint._certificate.current()
    assert third.not_valid_before_utc < clock[0] < third.not_valid_after_utc
    await endpoint.close()


def test_a_certificate_tolerates_clocks_two_days_apart() -> None:
    key = Ed25519PrivateKey.generate()
    certificate = make_certificate(key, NOW)
    for days in (-1.9, 1.9):
        assert check_certificate_untrusted(
            certificate, NOW + datetime.timedelta(days=days)
        ) == device_key_of(key)
    with pytest.raises(Malformed):
        check_certificate_untrusted(certificate, NOW + MONTH)


async def test_another_aioquic_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.metadata, "version", lambda _: "1.8.0")
    with pytest.raises(Fault) as caught:
        await Endpoint.open(Ed25519PrivateKey.generate(), LOOPBACK, handlers={})
    assert caught.value.code == "aioquic-version"
    assert caught.value.blame is Blame.INCOMPATIBLE


async def test_a_hook_that_proves_nothing_fails_closed(
    open_endpoint: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If an update of the library bypassed our checks, no connection may come of it."""
    inbox = Inbox()
    server, client = await open_endpoint(inbox), await open_endpoint()
    monkeypatch.setattr(MutualQuicConnection, "peer", property(lambda _: None))
    with pytest.raises((Refused, Unreachable, ConnectionLost)):
        await within(client.dial([server.address], expected=server.device, alpn=ALPN))
    assert client.connections == []
    assert client.counters["handshake-without-proof"] == 1
    assert inbox.connections.empty()
