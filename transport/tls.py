"""Mutual TLS 1.3 by device key: aioquic's TLS engine, made to prove both sides.

Nothing global is patched: a subclass overrides methods. Which private names of aioquic that takes
is listed in tests/transport/test_canary.py, and `require_supported_aioquic` refuses a version whose
inside was not read.
"""

from __future__ import annotations

import datetime
import ssl
from collections.abc import Callable
from dataclasses import dataclass

from aioquic import tls
from aioquic.buffer import Buffer  # type: ignore[attr-defined]
from aioquic.quic.configuration import QuicConfiguration
from cryptography import x509

from schemas.errors import Blame, Malformed, Refused
from schemas.ids import DeviceKey

from .certificate import MAX_CERTIFICATE_BYTES, check_certificate_untrusted
from .hello import HelloContext


@dataclass(frozen=True)
class PeerPolicy:
    """Whom a handshake lets through.

    `expected` is the pinned device key of a dialled peer; None accepts any proven key, which only
    an accepting side and an AnonymousEndpoint may do. `utc_now` is compared with certificates'
    validity. `post_quantum_only` refuses a peer that has no X25519MLKEM768.
    """

    expected: DeviceKey | None
    utc_now: Callable[[], datetime.datetime]
    post_quantum_only: bool = False


class MutualContext(HelloContext):
    """TLS 1.3 in which both sides present an Ed25519 certificate and prove its key."""

    def __init__(self, base: tls.Context, policy: PeerPolicy, configuration: QuicConfiguration):
        super().__init__(
            is_client=configuration.is_client,
            alpn_protocols=configuration.alpn_protocols,
            cipher_suites=configuration.cipher_suites,
            verify_mode=ssl.CERT_NONE,  # no authority vouches for a device key: we check it
            post_quantum_only=policy.post_quantum_only,
        )
        self.certificate = base.certificate
        self.certificate_private_key = base.certificate_private_key
        self.handshake_extensions = base.handshake_extensions
        self.alpn_cb = base.alpn_cb
        self.update_traffic_key_cb = base.update_traffic_key_cb
        self._policy = policy
        self._claimed: DeviceKey | None = None
        self.proven: DeviceKey | None = None
        self._signature_algorithms = [tls.SignatureAlgorithm.ED25519]

    def _server_handle_certificate(self, input_buf: Buffer) -> None:
        # RFC 8446, 4.4.2.4 lets a server go on without a client certificate; we may not.
        start = input_buf.tell()
        if not tls.pull_certificate(input_buf).certificates:
            raise self._refuse(
                Malformed("no-client-certificate", "The peer presented no certificate")
            )
        input_buf.seek(start)
        super()._server_handle_certificate(input_buf)

    def _client_handle_certificate(self, input_buf: Buffer) -> None:
        if self._certificate_request is None:
            raise self._refuse(
                Malformed("no-certificate-request", "The peer does not ask who we are")
            )
        super()._client_handle_certificate(input_buf)

    def _set_peer_certificate(self, certificate: tls.Certificate) -> None:
        entries = certificate.certificates
        if len(entries) != 1 or len(entries[0][0]) > MAX_CERTIFICATE_BYTES:
            raise self._refuse(
                Malformed("certificate-malformed", "One small certificate is expected")
            )
        super()._set_peer_certificate(certificate)
        peer: x509.Certificate | None = self._peer_certificate
        if peer is None:
            raise tls.AlertBadCertificate("no certificate")
        try:
            claimed = check_certificate_untrusted(peer, self._policy.utc_now())
        except Malformed as error:
            raise self._refuse(error) from error
        if self._policy.expected is not None and claimed != self._policy.expected:
            # Our own certificate goes out with our Finished, later than this: whoever answers in
            # the place of the peer does not learn who dialled.
            raise self._refuse(
                Refused(
                    "wrong-peer",
                    f"the key {claimed.hex()[:12]} answered instead of"
                    f" {self._policy.expected.hex()[:12]}",
                    blame=Blame.PEER,
                    hint="The address belongs to somebody else now; ask for a fresh one.",
                )
            )
        self._claimed = claimed

    def _check_certificate_verify_signature(self, verify: tls.CertificateVerify) -> None:
        super()._check_certificate_verify_signature(verify)
        self.proven = self._claimed
