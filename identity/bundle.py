"""Contact bundles: what one needs to reach and seal to a person, signed by their identity."""

from __future__ import annotations

import hashlib

from identity.keys import KeyPair, signature_holds
from identity.signing import open_signed, prefixed, sign
from schemas.card import Card
from schemas.errors import Malformed
from schemas.ids import DeviceKey, IdentityKey
from schemas.records import BundleCore, BundleDevice, Signed, SignedType


def bundle_device(
    owner: IdentityKey, device: KeyPair[DeviceKey], name: str, hybrid_key: bytes, *, issued: int
) -> BundleDevice:
    """A device's entry; the device itself signs its hybrid key, and whose device it is."""
    signature = device.sign(prefixed(SignedType.HYBRID_KEY, hybrid_key))
    owner_signature = device.sign(prefixed(SignedType.DEVICE_OWNER, owner))
    return BundleDevice(device.public, name, hybrid_key, signature, owner_signature, issued)


def sign_bundle(identity: KeyPair[IdentityKey], core: BundleCore) -> Signed:
    return sign(SignedType.BUNDLE_CORE, identity, core.encode())


def open_bundle_untrusted(signed: Signed) -> BundleCore:
    """A bundle core whose every signature holds. Raises Malformed."""
    core = open_signed(SignedType.BUNDLE_CORE, signed, BundleCore.decode, lambda c: c.identity)
    if not core.devices:
        raise Malformed("malformed-bundle", "a bundle without a device")
    if len({device.key for device in core.devices}) != len(core.devices):
        raise Malformed("malformed-bundle", "a bundle that lists a device twice")
    for device in core.devices:
        covered = prefixed(SignedType.HYBRID_KEY, device.hybrid_key)
        if not signature_holds(device.key, device.hybrid_signature, covered):
            raise Malformed("bad-hybrid-key", "a hybrid key that its device did not sign")
        owned = prefixed(SignedType.DEVICE_OWNER, core.identity)
        if not signature_holds(device.key, device.owner_signature, owned):
            raise Malformed("not-their-device", "a bundle that lists somebody else's device")
    return core


def bundle_hash(signed: Signed) -> bytes:
    """SHA-256 of the core's exact bytes (32 B); what a card holds."""
    return hashlib.sha256(signed.payload).digest()


def check_against_card(core: BundleCore, signed: Signed, card: Card) -> None:
    """The bundle is of the card's person.

    It has the card's hash, or is newer. Raises Malformed `bundle-not-of-card`.
    """
    newer = core.number > card.bundle_number
    if core.identity != card.identity or not (newer or bundle_hash(signed) == card.bundle_hash):
        raise Malformed("bundle-not-of-card", "a bundle that is not the card's, nor newer")
