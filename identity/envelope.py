"""The hybrid envelope around every parcel: X25519 and ML-KEM-768, then ChaCha20-Poly1305.

    version 1 (1) | X25519 ephemeral public key (32) | ML-KEM-768 ciphertext (1,088)
    | nonce (12) | ciphertext

key = HKDF-SHA256(ikm = x25519_ss ‖ mlkem_ss, info = `quicnprotochat-hybrid-v1`, 32 bytes). The
additional data binds version, ephemeral key, KEM ciphertext and the recipient's hybrid public key.

Envelopes that one sender seals for one recipient in one go may share all but nonce and ciphertext
(`seal_all`): two key agreements are nearly all that an envelope costs, at both ends.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from identity import kem
from schemas.errors import Malformed
from schemas.records import HYBRID_KEY_LENGTH

VERSION = 1
_X25519 = 32
_NONCE = 12
_TAG = 16
_INFO = b"quicnprotochat-hybrid-v1"
_HEADER = 1 + _X25519 + kem.CIPHERTEXT_LENGTH
OVERHEAD = _HEADER + _NONCE + _TAG
SEALED_ALIKE = 64  # envelopes with one header: far from where random nonces could meet


@dataclass(frozen=True)
class HybridKeyPair:
    """`public` is X25519 32 | ML-KEM-768 1,184; `private` is X25519 32 | KEM private key."""

    public: bytes
    private: bytes = field(repr=False)
    # The header that last opened something, and its cipher: more under it may follow.
    _last: list[tuple[bytes, ChaCha20Poly1305]] = field(
        default_factory=list, repr=False, compare=False
    )

    @cached_property
    def x25519(self) -> X25519PrivateKey:
        return X25519PrivateKey.from_private_bytes(self.private[:_X25519])

    @cached_property
    def decapsulate(self) -> Callable[[bytes], bytes]:
        return kem.load_private(self.private[_X25519:])


def generate_hybrid(random: Callable[[int], bytes] = os.urandom) -> HybridKeyPair:
    x25519 = X25519PrivateKey.from_private_bytes(random(_X25519))
    kem_private, kem_public = kem.generate(random)
    return HybridKeyPair(
        x25519.public_key().public_bytes_raw() + kem_public,
        x25519.private_bytes_raw() + kem_private,
    )


def seal(recipient: bytes, plaintext: bytes) -> bytes:
    """Seals to a hybrid public key (1,216 B). Raises Malformed `bad-hybrid-key`."""
    return seal_all(recipient, [plaintext])[0]


def seal_all(recipient: bytes, plaintexts: Sequence[bytes]) -> list[bytes]:
    """An envelope for each of at most SEALED_ALIKE plaintexts, under one header.

    Whoever sees them can tell that they were sealed together. Raises Malformed `bad-hybrid-key`.
    """
    if len(recipient) != HYBRID_KEY_LENGTH:
        raise Malformed("bad-hybrid-key", "a hybrid key of the wrong length")
    if len(plaintexts) > SEALED_ALIKE:
        raise ValueError(f"at most {SEALED_ALIKE} envelopes with one header")
    ephemeral = X25519PrivateKey.generate()
    try:
        x25519_public, encapsulate = _load_public(recipient)
        x25519_ss = ephemeral.exchange(x25519_public)
        kem_ss, kem_ciphertext = encapsulate()
    except ValueError as error:  # a low-order point, or an encapsulation key out of range
        raise Malformed("bad-hybrid-key", "a hybrid key that cannot be sealed to") from error
    header = bytes([VERSION]) + ephemeral.public_key().public_bytes_raw() + kem_ciphertext
    cipher = ChaCha20Poly1305(_key(x25519_ss, kem_ss))
    bound = header + recipient
    nonces = [os.urandom(_NONCE) for _ in plaintexts]
    return [
        header + nonce + cipher.encrypt(nonce, plaintext, bound)
        for nonce, plaintext in zip(nonces, plaintexts, strict=True)
    ]


def open_untrusted(keys: HybridKeyPair, sealed: bytes) -> bytes:
    """The plaintext. Raises Malformed: `unknown-envelope-version` or `cannot-open`."""
    if len(sealed) < OVERHEAD:
        raise Malformed("cannot-open", "too short for an envelope")
    if sealed[0] != VERSION:
        raise Malformed(
            "unknown-envelope-version", f"an envelope of version {sealed[0]}", hint="upgrade"
        )
    header, nonce = sealed[:_HEADER], sealed[_HEADER : _HEADER + _NONCE]
    last = keys._last
    try:
        cipher = last[0][1] if last and last[0][0] == header else _agreed(keys, header)
        opened = cipher.decrypt(nonce, sealed[_HEADER + _NONCE :], header + keys.public)
    except (InvalidTag, ValueError) as error:
        raise Malformed("cannot-open", "not sealed to this key, or damaged") from error
    last[:] = [(header, cipher)]
    return opened


def _agreed(keys: HybridKeyPair, header: bytes) -> ChaCha20Poly1305:
    """The cipher of a header. Raises ValueError."""
    ephemeral = X25519PublicKey.from_public_bytes(header[1 : 1 + _X25519])
    x25519_ss = keys.x25519.exchange(ephemeral)
    return ChaCha20Poly1305(_key(x25519_ss, keys.decapsulate(header[1 + _X25519 :])))


@lru_cache(maxsize=256)
def _load_public(recipient: bytes) -> tuple[X25519PublicKey, Callable[[], tuple[bytes, bytes]]]:
    """Loading a hybrid key takes a third of the sealing, and most parcels go to few devices."""
    x25519 = X25519PublicKey.from_public_bytes(recipient[:_X25519])
    return x25519, kem.load_public(recipient[_X25519:])


def _key(x25519_ss: bytes, kem_ss: bytes) -> bytes:
    return HKDF(hashes.SHA256(), 32, salt=None, info=_INFO).derive(x25519_ss + kem_ss)
