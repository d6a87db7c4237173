"""One side of our TLS without QUIC around it: messages in, messages and secrets out."""

from __future__ import annotations

import datetime
from dataclasses import dataclass, field

from aioquic import tls
from aioquic.buffer import Buffer  # type: ignore[attr-defined]
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from schemas.ids import DeviceKey
from tests.transport.support import ALPN
from transport.certificate import make_certificate
from transport.configuration import client_configuration, server_configuration
from transport.limits import TransportLimits
from transport.tls import MutualContext, PeerPolicy

NOW = datetime.datetime(2030, 1, 1, tzinfo=datetime.UTC)
QUIC_PARAMETERS = [(0x39, b"\x0f\x00")]


@dataclass
class Engine:
    context: MutualContext
    secrets: dict[tuple[tls.Direction, tls.Epoch], bytes]
    _buffers: dict[tls.Epoch, Buffer] = field(
        default_factory=lambda: {
            epoch: Buffer(capacity=16384)
            for epoch in (tls.Epoch.INITIAL, tls.Epoch.HANDSHAKE, tls.Epoch.ONE_RTT)
        }
    )

    def feed(self, data: bytes) -> bytes:
        """What it says to that, over all epochs. Raises tls.Alert."""
        self.context.handle_message(data, self._buffers)
        said = b"".join(buf.data for buf in self._buffers.values())
        for buf in self._buffers.values():
            buf.seek(0)
        return said


def engine(
    *,
    is_client: bool,
    key: Ed25519PrivateKey | None = None,
    expected: DeviceKey | None = None,
    post_quantum_only: bool = False,
) -> Engine:
    key = key or Ed25519PrivateKey.generate()
    certificate, limits = make_certificate(key, NOW), TransportLimits()
    secrets: dict[tuple[tls.Direction, tls.Epoch], bytes] = {}
    if is_client:
        configuration = client_configuration(key, certificate, ALPN, limits)
    else:
        configuration = server_configuration(key, certificate, [ALPN], limits)
    base = tls.Context(is_client=is_client)
    base.certificate, base.certificate_private_key = certificate, key
    base.handshake_extensions = list(QUIC_PARAMETERS)
    base.update_traffic_key_cb = lambda direction, epoch, _, secret: secrets.__setitem__(
        (direction, epoch), secret
    )
    policy = PeerPolicy(expected, lambda: NOW, post_quantum_only)
    return Engine(MutualContext(base, policy, configuration), secrets)


def handshake(client: Engine, server: Engine) -> None:
    """To the end at both sides. Raises tls.Alert of whoever refuses."""
    server.feed(client.feed(server.feed(client.feed(b""))))
