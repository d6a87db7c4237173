"""The device credential: a person's word that a device is theirs.

Identity key 32 | signature by it over `"quicnprotochat device v1" | device key`. These 96 bytes
are the MLS Basic credential of the device's leaf (RFC 9420 section 5.3).
"""

from __future__ import annotations

from identity.keys import KeyPair, signature_holds
from identity.signing import prefixed
from schemas.errors import Malformed
from schemas.frames import CREDENTIAL_LENGTH
from schemas.ids import DeviceKey, IdentityKey
from schemas.records import SignedType


def issue_credential(identity: KeyPair[IdentityKey], device: DeviceKey) -> bytes:
    return bytes(identity.public) + identity.sign(prefixed(SignedType.DEVICE, device))


def verify_credential_untrusted(device: bytes, credential: bytes) -> IdentityKey:
    """The person whose device `device` is. Raises Malformed `bad-credential`."""
    if len(credential) == CREDENTIAL_LENGTH and len(device) == DeviceKey.LENGTH:
        identity, signature = credential[:32], credential[32:]
        if signature_holds(identity, signature, prefixed(SignedType.DEVICE, device)):
            return IdentityKey(identity)
    raise Malformed("bad-credential", "a device without its owner's signature")
