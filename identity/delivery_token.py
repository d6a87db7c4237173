"""Delivery tokens: what a parcel shows to a relay, so that its bringer need not show who it is.

    token = HKDF-SHA256(secret, info = "quicnprotochat delivery token v1 " | word | 0 | for whom)

Each opens the mailbox of one device. Three secrets make them: one of our own, for a token that a
contact gets in the private part of our bundle; the discovery secret of our card, for whoever holds
that; and the id of a group, which its members alone know, for those of them who are no contacts.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from schemas.ids import DeviceKey, GroupId, IdentityKey
from schemas.limits import DELIVERY_TOKEN

_INFO = b"quicnprotochat delivery token v1 "


def contact_token(secret: bytes, reader: IdentityKey) -> bytes:
    """What our contact `reader` gets; `secret` is nobody's but ours."""
    return _derive(secret, b"contact", reader)


def card_token(discovery_secret: bytes, device: DeviceKey) -> bytes:
    """For the mailbox of `device`, whose card or bundle told us the secret."""
    return _derive(discovery_secret, b"card", device)


def group_token(group: GroupId, device: DeviceKey) -> bytes:
    """For the mailbox of `device`, a member of the group."""
    return _derive(group, b"group", device)


def token_hash(token: bytes) -> bytes:
    """What a relay is told, and keeps (32 B)."""
    return hashlib.sha256(token).digest()


@lru_cache(maxsize=4096)
def _derive(secret: bytes, word: bytes, whom: bytes) -> bytes:
    info = _INFO + word + b"\0" + whom
    return HKDF(hashes.SHA256(), DELIVERY_TOKEN, salt=None, info=info).derive(secret)
