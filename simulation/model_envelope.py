"""A deterministic, cheap stand-in for `identity.envelope`: same size, same failures, no secrecy.

    version 1 (1) | tag (32) | zeros, up to the size of a real header and nonce | plaintext

The tag is over the recipient's public key and the plaintext: only its owner opens it, and a flipped
byte is found.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Final

from identity.envelope import OVERHEAD, VERSION, HybridKeyPair
from schemas.errors import Malformed
from schemas.records import HYBRID_KEY_LENGTH

_TAG: Final = 32
_HEADER: Final = 1 + _TAG
_FILLING: Final = bytes(OVERHEAD - _HEADER)


def seal(recipient: bytes, plaintext: bytes) -> bytes:
    """Seals to a hybrid public key. Raises Malformed `bad-hybrid-key`."""
    if len(recipient) != HYBRID_KEY_LENGTH:
        raise Malformed("bad-hybrid-key", "a hybrid key of the wrong length")
    return bytes([VERSION]) + _tag(recipient, plaintext) + _FILLING + plaintext


def open_untrusted(keys: HybridKeyPair, sealed: bytes) -> bytes:
    """The plaintext. Raises Malformed: `unknown-envelope-version` or `cannot-open`."""
    if len(sealed) < OVERHEAD:
        raise Malformed("cannot-open", "too short for an envelope")
    if sealed[0] != VERSION:
        raise Malformed(
            "unknown-envelope-version", f"an envelope of version {sealed[0]}", hint="upgrade"
        )
    plaintext = sealed[OVERHEAD:]
    expected = _tag(keys.public, plaintext)
    if sealed[1:_HEADER] != expected or sealed[_HEADER:OVERHEAD] != _FILLING:
        raise Malformed("cannot-open", "not sealed to this key, or damaged")
    return plaintext


def _tag(recipient: bytes, plaintext: bytes) -> bytes:
    return blake2b(recipient + plaintext, digest_size=_TAG).digest()
