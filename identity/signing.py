"""Signatures with a purpose: `"quicnprotochat <type> v1" | exact payload bytes`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from identity.keys import KeyPair, signature_holds
from schemas.errors import Malformed
from schemas.ids import Id
from schemas.records import Signed, SignedType

T = TypeVar("T")


def prefixed(kind: SignedType, payload: bytes) -> bytes:
    """The bytes that a signature of this kind covers."""
    return f"quicnprotochat {kind.value} v1".encode() + payload


def sign(kind: SignedType, key: KeyPair[Id], payload: bytes) -> Signed:
    return Signed(payload, bytes(key.public), key.sign(prefixed(kind, payload)))


def open_signed(
    kind: SignedType, signed: Signed, decode: Callable[[bytes], T], signer: Callable[[T], Id]
) -> T:
    """The value of a signed record whose signature holds and whose signer is the one it names.

    Raises Malformed: `bad-signature`, `wrong-signer`, or what `decode` raises.
    """
    if not signature_holds(signed.signer, signed.signature, prefixed(kind, signed.payload)):
        raise Malformed("bad-signature", f"the signature of a {kind.value} does not hold")
    value = decode(signed.payload)
    if signer(value) != signed.signer:
        raise Malformed("wrong-signer", f"a {kind.value} signed by a key that may not sign it")
    return value
