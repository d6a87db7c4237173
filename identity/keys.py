"""Ed25519 key pairs of persons and devices, and the keys that derive from a device's seed."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from functools import cached_property
from typing import Generic, TypeVar

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from schemas.ids import DeviceKey, Id, IdentityKey

SEED_LENGTH = 32

K_co = TypeVar("K_co", bound=Id, covariant=True)


@dataclass(frozen=True)
class KeyPair(Generic[K_co]):
    """An Ed25519 key pair. The seed (32 B) never shows in `repr`."""

    public: K_co
    seed: bytes = field(repr=False)

    @cached_property
    def private(self) -> Ed25519PrivateKey:
        return Ed25519PrivateKey.from_private_bytes(self.seed)

    def sign(self, data: bytes) -> bytes:
        """64 bytes (RFC 8032)."""
        return self.private.sign(data)

    def derive(self, purpose: bytes, length: int = 32) -> bytes:
        """A secret of this key pair for one purpose: HKDF-SHA256 over the seed (RFC 5869)."""
        info = b"quicnprotochat " + purpose
        return HKDF(hashes.SHA256(), length, salt=None, info=info).derive(self.seed)


def identity_from_seed(seed: bytes) -> KeyPair[IdentityKey]:
    return KeyPair(IdentityKey(_public(seed)), seed)


def device_from_seed(seed: bytes) -> KeyPair[DeviceKey]:
    return KeyPair(DeviceKey(_public(seed)), seed)


def new_seed() -> bytes:
    return os.urandom(SEED_LENGTH)


def _public(seed: bytes) -> bytes:
    return Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()


def signature_holds(key: bytes, signature: bytes, data: bytes) -> bool:
    """Whether `signature` (64 B) is by `key` (32 B) over `data`."""
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, data)
    except (InvalidSignature, ValueError):
        return False
    return True
