"""What QUIC connections are made from, and the one minor version of aioquic read for it."""

from __future__ import annotations

import importlib.metadata
import ssl

from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.packet import QuicProtocolVersion
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from schemas.errors import Blame, Fault

from .limits import TransportLimits

SUPPORTED_AIOQUIC = "1.7."
CONNECTION_ID_BYTES = 8
QUIC_VERSIONS = (int(QuicProtocolVersion.VERSION_1),)


def require_supported_aioquic() -> None:
    """Raises Fault `aioquic-version` when the library's minor version was not read for this."""
    installed = importlib.metadata.version("aioquic")
    if not installed.startswith(SUPPORTED_AIOQUIC):
        raise Fault(
            "aioquic-version",
            f"aioquic {installed} is installed, and {SUPPORTED_AIOQUIC}x is needed",
            blame=Blame.INCOMPATIBLE,
            hint="Install the versions of requirements.lock.",
        )


def client_configuration(
    key: Ed25519PrivateKey, certificate: x509.Certificate, alpn: str, limits: TransportLimits
) -> QuicConfiguration:
    """What a dialled connection is made from."""
    return _configuration(key, certificate, [alpn], limits, is_client=True)


def server_configuration(
    key: Ed25519PrivateKey, certificate: x509.Certificate, alpns: list[str], limits: TransportLimits
) -> QuicConfiguration:
    """What accepted connections are made from."""
    return _configuration(key, certificate, alpns, limits, is_client=False)


def _configuration(
    key: Ed25519PrivateKey,
    certificate: x509.Certificate,
    alpns: list[str],
    limits: TransportLimits,
    *,
    is_client: bool,
) -> QuicConfiguration:
    return QuicConfiguration(
        alpn_protocols=alpns,
        certificate=certificate,
        connection_id_length=CONNECTION_ID_BYTES,
        idle_timeout=limits.idle_timeout_s,
        is_client=is_client,
        max_data=limits.connection_buffer,
        max_datagram_size=limits.datagram,
        max_stream_data=limits.stream_buffer,
        private_key=key,
        supported_versions=list(QUIC_VERSIONS),
        verify_mode=ssl.CERT_NONE,
    )
