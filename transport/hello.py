"""The hello messages of TLS 1.3 with our own key exchange, without resumption; and the exporter.

aioquic's engine knows neither X25519MLKEM768 nor an exporter, so three of its methods are written
anew here. Left out on purpose, because nobody here speaks them: pre-shared keys, session tickets,
early data, other groups, HelloRetryRequest.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TypeVar

from aioquic import tls
from aioquic.buffer import Buffer  # type: ignore[attr-defined]
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from schemas.errors import Blame, Fault, Malformed, Refused

from .key_exchange import PREFERENCE, Group, Offer, answer_untrusted

T = TypeVar("T", bound=int)

MAX_HANDSHAKE_MESSAGE = 16 * 1024  # ours are below 3 KiB; aioquic buffers whatever is announced
MAX_EXPORTER_LABEL = 249 - len("tls13 ")  # RFC 8446, 7.1: a label has at most 255 bytes
MAX_EXPORT = 255 * 32  # RFC 5869, 2.3, for the shortest hash in use


class _CertificateRequired(tls.Alert):
    description = tls.AlertDescription.certificate_required


# What the peer is told when a Fault of ours ends the handshake.
_ALERTS: dict[str, type[tls.Alert]] = {
    "certificate-not-ed25519": tls.AlertUnsupportedCertificate,
    "certificate-signature": tls.AlertBadCertificate,
    "certificate-expired": tls.AlertCertificateExpired,
    "certificate-not-yet-valid": tls.AlertCertificateExpired,
    "certificate-malformed": tls.AlertBadCertificate,
    "no-client-certificate": _CertificateRequired,
    "no-certificate-request": tls.AlertHandshakeFailure,
    "wrong-peer": tls.AlertBadCertificate,
    "key-share-malformed": tls.AlertIllegalParameter,
    "key-share-repeated": tls.AlertIllegalParameter,
    "key-share-missing": tls.AlertMissingExtension,
    "no-common-group": tls.AlertHandshakeFailure,
    "not-post-quantum": tls.AlertHandshakeFailure,
    "hello-malformed": tls.AlertIllegalParameter,
    "handshake-too-large": tls.AlertDecodeError,
}


class HelloContext(tls.Context):
    """A TLS engine that agrees on a key by the groups of `key_exchange`."""

    def __init__(
        self,
        *,
        is_client: bool,
        alpn_protocols: list[str] | None,
        cipher_suites: list[tls.CipherSuite] | None,
        verify_mode: int,
        post_quantum_only: bool,
    ) -> None:
        super().__init__(
            is_client=is_client,
            alpn_protocols=alpn_protocols,
            cipher_suites=cipher_suites,
            max_early_data=None,
            verify_mode=verify_mode,
        )
        self._groups = PREFERENCE[:1] if post_quantum_only else PREFERENCE
        self._offer: Offer | None = None
        self._exporter_secret: bytes | None = None
        self.group: Group | None = None
        self.refusal: Fault | None = None

    def handle_message(self, input_data: bytes, output_buf: dict[tls.Epoch, Buffer]) -> None:
        if len(self._receive_buffer) + len(input_data) > MAX_HANDSHAKE_MESSAGE:
            raise self._refuse(Malformed("handshake-too-large", "A handshake message is too large"))
        super().handle_message(input_data, output_buf)

    def export_keying_material(self, label: bytes, context: bytes, length: int) -> bytes:
        """RFC 8446, 7.5. `label` 1 to 243 bytes, `length` 1 to 8,160 bytes.

        Raises ValueError for another size, RuntimeError before the handshake has come so far.
        """
        if not 1 <= len(label) <= MAX_EXPORTER_LABEL or not 1 <= length <= MAX_EXPORT:
            raise ValueError("label or length out of bounds")
        if self._exporter_secret is None or self.key_schedule is None:
            raise RuntimeError("the handshake is not complete")
        algorithm = self.key_schedule.algorithm
        secret = tls.hkdf_expand_label(
            algorithm,
            self._exporter_secret,
            label,
            self.key_schedule.hash_empty_value,
            algorithm.digest_size,
        )
        return tls.hkdf_expand_label(
            algorithm, secret, b"exporter", _digest(algorithm, context), length
        )

    # Overridden

    def _setup_traffic_protection(
        self, direction: tls.Direction, epoch: tls.Epoch, label: bytes
    ) -> None:
        if epoch is tls.Epoch.ONE_RTT and self.key_schedule is not None:
            # RFC 8446, 7.1: the transcript now ends with the server's Finished, at both sides.
            self._exporter_secret = self.key_schedule.derive_secret(b"exp master")
        super()._setup_traffic_protection(direction, epoch, label)

    def _client_send_hello(self, output_buf: Buffer) -> None:
        self._offer = Offer(self._groups)
        hello = tls.ClientHello(
            random=self.client_random or os.urandom(32),
            legacy_session_id=b"",  # RFC 9001, 8.4
            cipher_suites=[int(each) for each in self._cipher_suites],
            legacy_compression_methods=self._legacy_compression_methods,
            alpn_protocols=self._alpn_protocols,
            key_share=[(int(group), share) for group, share in self._offer.shares.items()],
            signature_algorithms=self._signature_algorithms,
            supported_groups=[int(group) for group in self._offer.shares],
            supported_versions=self._supported_versions,
            other_extensions=self.handshake_extensions,
        )
        # Which hash the transcript takes is known with the server's choice: all are kept till then.
        self._key_schedule_proxy = tls.KeyScheduleProxy(self._cipher_suites)
        self._key_schedule_proxy.extract(None)
        with tls.push_message(self._key_schedule_proxy, output_buf):
            tls.push_client_hello(output_buf, hello)
        self._set_state(tls.State.CLIENT_EXPECT_SERVER_HELLO)

    def _client_handle_hello(self, input_buf: Buffer, output_buf: Buffer) -> None:
        hello = tls.pull_server_hello(input_buf)
        suite = _common(self._cipher_suites, [hello.cipher_suite], "cipher suite")
        if (
            hello.compression_method not in self._legacy_compression_methods
            or hello.supported_version not in self._supported_versions
            or hello.pre_shared_key is not None
        ):
            raise self._refuse(Malformed("hello-malformed", "The answer is to another hello"))
        if hello.key_share is None:
            raise self._refuse(Malformed("key-share-missing", "The peer sent no key share"))
        if self._offer is None or self._key_schedule_proxy is None:
            raise tls.AlertUnexpectedMessage("a ServerHello before the ClientHello")
        try:
            self.group, secret = self._offer.agree_untrusted(*hello.key_share)
        except Malformed as error:
            raise self._refuse(error) from error
        self.key_schedule = self._key_schedule_proxy.select(suite)
        self._offer = self._key_schedule_proxy = None
        self.key_schedule.update_hash(input_buf.data)
        self.key_schedule.extract(secret)
        self._setup_traffic_protection(tls.Direction.DECRYPT, tls.Epoch.HANDSHAKE, b"s hs traffic")
        self._setup_traffic_protection(tls.Direction.ENCRYPT, tls.Epoch.HANDSHAKE, b"c hs traffic")
        self._set_state(tls.State.CLIENT_EXPECT_ENCRYPTED_EXTENSIONS)

    def _server_handle_hello(
        self, input_buf: Buffer, initial_buf: Buffer, handshake_buf: Buffer
    ) -> None:
        hello = tls.pull_client_hello(input_buf)
        suite = _common(self._cipher_suites, hello.cipher_suites, "cipher suite")
        compression = _common(
            self._legacy_compression_methods, hello.legacy_compression_methods, "compression"
        )
        version = tls.negotiate(
            self._supported_versions,
            hello.supported_versions,
            tls.AlertProtocolVersion("TLS 1.3 is spoken here"),
        )
        signature_algorithm = _common(
            self._signature_algorithms_for_private_key(),
            hello.signature_algorithms,
            "signature algorithm",
        )
        self.alpn_negotiated = tls.negotiate(
            self._alpn_protocols or [],
            hello.alpn_protocols,
            tls.AlertNoApplicationProtocol("No common ALPN protocols"),
        )
        share, secret = self._choose_group(hello)
        self.client_random = hello.random
        self.legacy_session_id = hello.legacy_session_id
        self.received_extensions = hello.other_extensions
        if self.alpn_cb is not None:
            self.alpn_cb(self.alpn_negotiated)  # QUIC reads the transport parameters here

        schedule = self.key_schedule = tls.KeySchedule(suite)
        schedule.extract(None)
        schedule.update_hash(input_buf.data)
        with tls.push_message(schedule, initial_buf):
            tls.push_server_hello(
                initial_buf,
                tls.ServerHello(
                    random=os.urandom(32),
                    legacy_session_id=hello.legacy_session_id,
                    cipher_suite=suite,
                    compression_method=compression,
                    key_share=share,
                    supported_version=version,
                ),
            )
        schedule.extract(secret)
        self._setup_traffic_protection(tls.Direction.ENCRYPT, tls.Epoch.HANDSHAKE, b"s hs traffic")
        self._setup_traffic_protection(tls.Direction.DECRYPT, tls.Epoch.HANDSHAKE, b"c hs traffic")
        self._send_identity(schedule, handshake_buf, signature_algorithm)
        schedule.extract(None)
        self._setup_traffic_protection(tls.Direction.ENCRYPT, tls.Epoch.ONE_RTT, b"s ap traffic")
        self._next_dec_key = schedule.derive_secret(b"c ap traffic")
        self._psk_key_exchange_mode = None  # so no session ticket is ever sent
        self._set_state(tls.State.SERVER_EXPECT_CERTIFICATE)

    # Parts of the above

    def _choose_group(self, hello: tls.ClientHello) -> tuple[tls.KeyShareEntry, bytes]:
        """(our share, shared secret): the group that we prefer of those with a share."""
        if hello.key_share is None or hello.supported_groups is None:
            raise self._refuse(Malformed("key-share-missing", "The peer sent no key share"))
        shares = dict(hello.key_share)
        # RFC 8446, 4.2.8: one share for a group at most, and only for groups that are listed.
        if len(shares) != len(hello.key_share) or not shares.keys() <= set(hello.supported_groups):
            raise self._refuse(Malformed("key-share-repeated", "The peer's key shares disagree"))
        chosen = next((group for group in self._groups if group in shares), None)
        if chosen is None:
            if Group.X25519 in shares:
                raise self._refuse(not_post_quantum())
            raise self._refuse(
                Refused("no-common-group", "No common key exchange", blame=Blame.INCOMPATIBLE)
            )
        try:
            share, secret = answer_untrusted(chosen, shares[chosen])
        except Malformed as error:
            raise self._refuse(error) from error
        self.group = chosen
        return (int(chosen), share), secret

    def _send_identity(
        self, schedule: tls.KeySchedule, buf: Buffer, signature_algorithm: tls.SignatureAlgorithm
    ) -> None:
        """EncryptedExtensions to Finished; the peer must show a certificate of its own."""
        certificate, key = self.certificate, self.certificate_private_key
        if certificate is None or not isinstance(key, Ed25519PrivateKey) or self._enc_key is None:
            raise RuntimeError("an accepting side needs a certificate and its Ed25519 key")
        with tls.push_message(schedule, buf):
            tls.push_encrypted_extensions(
                buf,
                tls.EncryptedExtensions(
                    alpn_protocol=self.alpn_negotiated,
                    other_extensions=self.handshake_extensions,
                ),
            )
        with tls.push_message(schedule, buf):
            tls.push_certificate_request(
                buf, tls.CertificateRequest(signature_algorithms=self._signature_algorithms)
            )
        with tls.push_message(schedule, buf):
            der = certificate.public_bytes(serialization.Encoding.DER)
            tls.push_certificate(buf, tls.Certificate(certificates=[(der, b"")]))
        signature = key.sign(schedule.certificate_verify_data(tls.SERVER_CONTEXT_STRING))
        with tls.push_message(schedule, buf):
            tls.push_certificate_verify(
                buf, tls.CertificateVerify(algorithm=signature_algorithm, signature=signature)
            )
        with tls.push_message(schedule, buf):
            tls.push_finished(
                buf, tls.Finished(verify_data=schedule.finished_verify_data(self._enc_key))
            )

    def _refuse(self, fault: Fault) -> tls.Alert:
        self.refusal = fault
        # The peer learns the rule, not whom we meant to reach.
        return _ALERTS[fault.code](fault.code)


def not_post_quantum() -> Refused:
    """The policy `post_quantum_only` met a peer that has only X25519."""
    return Refused(
        "not-post-quantum",
        "The peer has no post-quantum key exchange, and nothing less is allowed here",
        blame=Blame.INCOMPATIBLE,
        hint="The peer must upgrade, or this side must allow X25519.",
    )


def _common(ours: list[T], theirs: Sequence[int] | None, what: str) -> T:
    """The first of ours that is among theirs."""
    alert = tls.AlertHandshakeFailure(f"No common {what}")
    return tls.negotiate(ours, list(theirs or ()), alert)


def _digest(algorithm: hashes.HashAlgorithm, data: bytes) -> bytes:
    digest = hashes.Hash(algorithm)
    digest.update(data)
    return digest.finalize()
