"""ML-KEM-768 (FIPS 203): from `cryptography`, or from `pqcrypto` where its OpenSSL has none.

A private key is opaque bytes: a 64-byte seed (`cryptography`) or an expanded key (`pqcrypto`).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import mlkem
from pqcrypto.kem import ml_kem_768

ENCAPSULATION_KEY_LENGTH = 1184
CIPHERTEXT_LENGTH = 1088
_SEED_LENGTH = 64


def generate(random: Callable[[int], bytes] = os.urandom) -> tuple[bytes, bytes]:
    """(private key, encapsulation key 1,184 B). `pqcrypto` draws by itself."""
    try:
        private = mlkem.MLKEM768PrivateKey.from_seed_bytes(random(_SEED_LENGTH))
    except UnsupportedAlgorithm:
        public, expanded = ml_kem_768.keygen()
        return bytes(expanded), bytes(public)
    return private.private_bytes_raw(), private.public_key().public_bytes_raw()


def generate_ephemeral() -> tuple[bytes, Callable[[bytes], bytes]]:
    """(encapsulation key 1,184 B, its `decapsulate`) for one exchange: nothing to store.

    A third of the time of `generate` and `decapsulate`, which expand the seed a second time.
    `decapsulate` raises ValueError for a ciphertext of another length.
    """
    try:
        private = mlkem.MLKEM768PrivateKey.generate()
    except UnsupportedAlgorithm:
        public, expanded = ml_kem_768.keygen()
        return bytes(public), partial(_decapsulate, bytes(expanded))
    return private.public_key().public_bytes_raw(), private.decapsulate


def load_public(public: bytes) -> Callable[[], tuple[bytes, bytes]]:
    """`encapsulate` of a key that is used more than once. Raises as `encapsulate`."""
    try:
        return mlkem.MLKEM768PublicKey.from_public_bytes(public).encapsulate
    except UnsupportedAlgorithm:
        return partial(_encapsulate, public)


def load_private(private: bytes) -> Callable[[bytes], bytes]:
    """`decapsulate` of a key that is used more than once: expanding a seed takes most of it."""
    if len(private) == _SEED_LENGTH:
        return mlkem.MLKEM768PrivateKey.from_seed_bytes(private).decapsulate
    return partial(_decapsulate, private)


def encapsulate(public: bytes) -> tuple[bytes, bytes]:
    """(shared secret 32 B, ciphertext 1,088 B). Raises ValueError for a key FIPS 203 refuses."""
    return load_public(public)()


def decapsulate(private: bytes, ciphertext: bytes) -> bytes:
    """The shared secret (32 B). A ciphertext for another key gives another secret, no error."""
    return load_private(private)(ciphertext)


def _encapsulate(public: bytes) -> tuple[bytes, bytes]:
    ciphertext, shared = ml_kem_768.encaps(public)
    return bytes(shared), bytes(ciphertext)


def _decapsulate(expanded: bytes, ciphertext: bytes) -> bytes:
    return bytes(ml_kem_768.decaps(expanded, ciphertext))
