"""Stateless reset (RFC 9000, 10.3): a peer that lost its memory says so, instead of staying silent.

Our tokens derive from the device's key, so a restarted node can still end the connections of its
former life. That needs one endpoint per device key: whoever runs two tells strangers, through one,
the tokens of the other's connections (RFC 9000, 10.3.2).
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections import OrderedDict
from collections.abc import Iterable
from enum import Enum
from typing import Final, Generic, TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from .rate import TokenBucket

TOKEN_LENGTH = 16
MIN_RESET = 21  # RFC 9000, 10.3: 5 bytes of header and noise, then the token
MAX_RESET = 42  # RFC 9000, 10.3: what answers a longer packet still looks like a packet
QUIET_S = 3.0  # RFC 9000, 10.2: what is on its way to a closed connection is no stray
_REMEMBERED = 8_192  # tokens, and connection ids, of connections that are over

C = TypeVar("C")


class Past(Enum):
    """A reset for a connection that is over here, too."""

    PAST = "past"


PAST: Final = Past.PAST


class ResetKey:
    """Makes our own tokens, and the resets that carry them."""

    def __init__(self, private_key: Ed25519PrivateKey, resets_per_s: float) -> None:
        self._key = HKDF(SHA256(), 32, None, b"quicnprotochat stateless reset v1").derive(
            private_key.private_bytes_raw()
        )
        self._rate = TokenBucket(resets_per_s, resets_per_s)
        self._retired_at: OrderedDict[bytes, float] = OrderedDict()

    def token(self, connection_id: bytes) -> bytes:
        return hmac.digest(self._key, connection_id, "sha256")[:TOKEN_LENGTH]

    def retire(self, connection_ids: Iterable[bytes], now: float) -> None:
        """These ids are over for us; their peers know, or will in a moment."""
        for connection_id in connection_ids:
            self._retired_at[connection_id] = now
            if len(self._retired_at) > _REMEMBERED:
                self._retired_at.popitem(last=False)

    def is_late(self, connection_id: bytes, now: float) -> bool:
        """Whether the id was retired so lately that packets for it are no sign of confusion."""
        retired_at = self._retired_at.get(connection_id)
        return retired_at is not None and now - retired_at < QUIET_S

    def reset_for(self, data: bytes, connection_id: bytes, now: float) -> bytes | None:
        """The answer to a short-header packet for an unknown `connection_id`, or None.

        Always shorter than the packet: two endpoints that reset each other come to an end.
        """
        size = min(len(data) - 1, MAX_RESET)
        if size < MIN_RESET or not self._rate.take(now):
            return None
        noise = bytearray(os.urandom(size - TOKEN_LENGTH))
        noise[0] = noise[0] & 0x3F | 0x40  # a short header, as any other
        return bytes(noise) + self.token(connection_id)


class PeerTokens(Generic[C]):
    """The token of each connection's peer, for the connection id in use.

    Looked up by a keyed hash, so that time tells nothing about the tokens (RFC 9000, 10.3.1).
    """

    def __init__(self) -> None:
        self._salt = os.urandom(32)
        self._connections: dict[bytes, C] = {}
        self._current: dict[C, tuple[bytes, bytes]] = {}  # (token, its hash)
        self._past: OrderedDict[bytes, None] = OrderedDict()

    def follow(self, connection: C, token: bytes | None) -> None:
        """The peer's connection id in use has this token now; None: it has none."""
        known = self._current.get(connection)
        if token is None or (known is not None and known[0] == token):
            return
        if known is not None:
            self._retire(known[1])
        hashed = self._hash(token)
        self._current[connection] = token, hashed
        self._connections[hashed] = connection

    def forget(self, connection: C) -> None:
        """The connection is over; a reset that is under way is still recognised."""
        known = self._current.pop(connection, None)
        if known is not None:
            self._retire(known[1])

    def find_untrusted(self, data: bytes) -> C | Past | None:
        """Whose reset that is; None when it is none that we know of."""
        if len(data) < MIN_RESET:
            return None
        hashed = self._hash(data[-TOKEN_LENGTH:])
        if hashed in self._past:
            return PAST
        return self._connections.get(hashed)

    def _retire(self, hashed: bytes) -> None:
        self._connections.pop(hashed, None)
        self._past[hashed] = None
        if len(self._past) > _REMEMBERED:
            self._past.popitem(last=False)

    def _hash(self, token: bytes) -> bytes:
        return hashlib.blake2b(token, digest_size=16, key=self._salt).digest()
