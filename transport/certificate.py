"""Self-signed Ed25519 certificates: the envelope in which TLS carries a device key.

Identity is the key and nothing else; names, issuers and extensions mean nothing here. The validity
only bounds how long a certificate that leaked from a broken handshake could be of use: it is made
by its holder, short, renewed each day, and refused once over. Its width leaves room for clocks that
are wrong by two days, because a messenger that stops at a wrong clock helps nobody.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.x509.oid import NameOID

from schemas.errors import Malformed
from schemas.ids import DeviceKey

NOT_BEFORE = datetime.timedelta(days=2)  # before now: the peer's clock may be behind
NOT_AFTER = datetime.timedelta(days=14)  # after now: the peer's clock may be ahead
_RENEW_AFTER = datetime.timedelta(days=1)
MAX_CERTIFICATE_BYTES = 2048  # ours are about 300; more is somebody else's

_NAME = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "quicnprotochat")])


def device_key_of(key: Ed25519PrivateKey) -> DeviceKey:
    """The public half, as the 32 bytes by which peers know this device."""
    return _device_key(key.public_key())


def make_certificate(key: Ed25519PrivateKey, now: datetime.datetime) -> x509.Certificate:
    """A certificate for `key`, valid around `now` (timezone-aware)."""
    return (
        x509.CertificateBuilder()
        .subject_name(_NAME)
        .issuer_name(_NAME)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - NOT_BEFORE)
        .not_valid_after(now + NOT_AFTER)
        .sign(key, None)
    )


class OwnCertificate:
    """A certificate for `key` that is renewed in time. `utc_now` tells the time."""

    def __init__(self, key: Ed25519PrivateKey, utc_now: Callable[[], datetime.datetime]) -> None:
        self._key = key
        self._utc_now = utc_now
        self._made: tuple[x509.Certificate, datetime.datetime] | None = None

    def current(self) -> x509.Certificate:
        now = self._utc_now()
        # abs: a clock that jumped back renews it, too
        if self._made is None or abs(now - self._made[1]) > _RENEW_AFTER:
            self._made = make_certificate(self._key, now), now
        return self._made[0]


def check_certificate_untrusted(certificate: x509.Certificate, now: datetime.datetime) -> DeviceKey:
    """The device key that a peer's certificate claims; who holds it, CertificateVerify proves.

    Raises Malformed: `certificate-not-ed25519`, `certificate-signature` (not signed by the key it
    carries), `certificate-expired`, `certificate-not-yet-valid`, `certificate-malformed`.
    """
    try:
        key = certificate.public_key()
    except UnsupportedAlgorithm as error:
        raise _not_ed25519() from error
    except ValueError as error:
        raise Malformed("certificate-malformed", "The certificate's key is no key") from error
    if not isinstance(key, Ed25519PublicKey):
        raise _not_ed25519()
    try:
        key.verify(certificate.signature, certificate.tbs_certificate_bytes)
    except InvalidSignature as error:
        raise Malformed(
            "certificate-signature", "The certificate is not signed by the key it carries"
        ) from error
    if now > certificate.not_valid_after_utc:
        raise Malformed(
            "certificate-expired",
            "The certificate is over",
            hint="Compare the clocks of both devices.",
        )
    if now < certificate.not_valid_before_utc:
        raise Malformed(
            "certificate-not-yet-valid",
            "The certificate is from the future",
            hint="Compare the clocks of both devices.",
        )
    return _device_key(key)


def _device_key(key: Ed25519PublicKey) -> DeviceKey:
    return DeviceKey(key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw))


def _not_ed25519() -> Malformed:
    return Malformed("certificate-not-ed25519", "The certificate's key is not Ed25519")
