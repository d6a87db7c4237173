"""Which key exchange whole connections come to, with us and with unmodified aioquic."""

from __future__ import annotations

import pytest
from aioquic.asyncio.client import connect
from aioquic.quic.connection import QuicConnection
from aioquic.quic.packet import QuicProtocolVersion
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from schemas.errors import Blame, Refused
from tests.transport.support import ALPN, LOOPBACK, QUICK, Inbox, Open, eventually, within
from tests.transport.test_identity import NOW, plain_client, plain_server, refused
from transport import Endpoint
from transport.admission import Admission, Verdict
from transport.certificate import device_key_of, make_certificate
from transport.configuration import client_configuration, server_configuration
from transport.quic import MutualQuicConnection
from transport.tls import PeerPolicy


async def strict(open_endpoint: Open, inbox: Inbox | None = None) -> Endpoint:
    """An endpoint whose policy refuses X25519."""
    endpoint = await Endpoint.open(
        Ed25519PrivateKey.generate(),
        LOOPBACK,
        handlers={} if inbox is None else {ALPN: inbox},
        limits=QUICK,
        post_quantum_only=True,
    )
    open_endpoint.endpoints.append(endpoint)
    return endpoint


@pytest.fixture
def asks_for_certificates(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unmodified but for the one switch that aioquic has no setting for."""
    original = QuicConnection._initialize

    def initialize(self: QuicConnection, peer_cid: bytes) -> None:
        original(self, peer_cid)
        if not isinstance(self, MutualQuicConnection) and not self._is_client:
            self.tls._request_client_certificate = True

    monkeypatch.setattr(QuicConnection, "_initialize", initialize)


async def test_among_ourselves_strict_or_not(open_endpoint: Open) -> None:
    for dialler in (await strict(open_endpoint), await open_endpoint()):
        inbox = Inbox()
        server = await strict(open_endpoint, inbox)
        connection = await within(
            dialler.dial(
                [server.address], expected=server.device, alpn=ALPN, post_quantum_only=True
            )
        )
        assert connection.key_exchange == "X25519MLKEM768"
        assert (await inbox.next()).key_exchange == "X25519MLKEM768"


async def test_an_unmodified_client_gets_x25519(open_endpoint: Open) -> None:
    inbox = Inbox()
    server = await open_endpoint(inbox)
    key = Ed25519PrivateKey.generate()
    host, port = server.address
    async with connect(host, port, configuration=plain_client(make_certificate(key, NOW), key)):
        assert (await inbox.next()).key_exchange == "X25519"


async def test_an_unmodified_client_is_refused_by_policy(open_endpoint: Open) -> None:
    server = await strict(open_endpoint, Inbox())
    key = Ed25519PrivateKey.generate()
    await refused(
        plain_client(make_certificate(key, NOW), key), server, "handshake-not-post-quantum"
    )


async def test_an_unmodified_server_gets_x25519(
    open_endpoint: Open, asks_for_certificates: None
) -> None:
    client, key = await open_endpoint(), Ed25519PrivateKey.generate()
    async with plain_server(key) as address:
        connection = await within(client.dial([address], expected=device_key_of(key), alpn=ALPN))
        assert connection.key_exchange == "X25519"
        await connection.close()


@pytest.mark.parametrize("by", ["dial", "endpoint"])
async def test_an_unmodified_server_is_refused_by_policy(
    open_endpoint: Open, asks_for_certificates: None, by: str
) -> None:
    client = await (open_endpoint() if by == "dial" else strict(open_endpoint))
    key = Ed25519PrivateKey.generate()
    async with plain_server(key) as address:
        with pytest.raises(Refused) as caught:
            await within(
                client.dial(
                    [address],
                    expected=device_key_of(key),
                    alpn=ALPN,
                    post_quantum_only=by == "dial",
                )
            )
    assert caught.value.code == "not-post-quantum"
    assert caught.value.blame is Blame.INCOMPATIBLE
    await eventually(lambda: not client._ids)


def test_after_version_negotiation() -> None:
    """The client begins with version 2, is told that only 1 is spoken, and starts again."""
    client_key, server_key = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    now, at = 0.0, ("192.0.2.1", 7000)
    offered = client_configuration(client_key, make_certificate(client_key, NOW), ALPN, QUICK)
    offered.supported_versions = [QuicProtocolVersion.VERSION_2, QuicProtocolVersion.VERSION_1]
    offered.original_version = QuicProtocolVersion.VERSION_2
    client = MutualQuicConnection(
        configuration=offered,
        policy=PeerPolicy(device_key_of(server_key), lambda: NOW),
        limits=QUICK,
    )
    client.connect(at, now=now)
    first = [data for data, _ in client.datagrams_to_send(now=now)]
    assert int.from_bytes(first[0][1:5], "big") == QuicProtocolVersion.VERSION_2
    decision = Admission(QUICK, listening=True).judge_untrusted(first[0], at, now=now, accepted=0)
    assert decision.verdict is Verdict.OTHER_VERSION
    client.receive_datagram(decision.reply, at, now=now)
    second = [data for data, _ in client.datagrams_to_send(now=now)]
    assert int.from_bytes(second[0][1:5], "big") == QuicProtocolVersion.VERSION_1
    server = MutualQuicConnection(
        configuration=server_configuration(
            server_key, make_certificate(server_key, NOW), [ALPN], QUICK
        ),
        policy=PeerPolicy(None, lambda: NOW),
        limits=QUICK,
        original_destination_connection_id=client.original_destination_connection_id,
    )
    for data in second:
        server.receive_datagram(data, at, now=now)
    for _ in range(3):
        for data, _ in server.datagrams_to_send(now=now):
            client.receive_datagram(data, at, now=now)
        for data, _ in client.datagrams_to_send(now=now):
            server.receive_datagram(data, at, now=now)
    assert client.peer == device_key_of(server_key)
    assert server.peer == device_key_of(client_key)
    assert client.key_exchange == server.key_exchange == "X25519MLKEM768"
