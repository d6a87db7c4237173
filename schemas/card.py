"""The card: what one person hands to another, as text or QR code.

    quicnprotochat:BASE64URL

whose bytes are, in order:

    version 1 (1) | identity key 32 | device key 32 | discovery secret 32
    | bundle number (4) | SHA-256 of the bundle core 32 | expiry 8, Unix seconds, big-endian
    | count of address hints (1) | each: length (1), "HOST:PORT"
    | count of relays, 0 or 1 (1) | each: length (1), "HOST:PORT", device key 32
    | checksum: first 4 bytes of SHA-256 over all before

It is not signed: whoever could forge it could as well hand over a card of their own. The checksum
tells a mistyped or truncated card from a forged one.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass
from typing import Final

from schemas import limits
from schemas.addresses import Address, RelayAddress
from schemas.errors import Malformed, Refused
from schemas.ids import DeviceKey, IdentityKey

PREFIX: Final = "quicnprotochat:"
_VERSION: Final = 1
_CHECKSUM: Final = 4
SECRET_LENGTH: Final = 32


@dataclass(frozen=True, slots=True)
class Card:
    """Enough to find a person and to check their bundle; `expires` in Unix seconds."""

    identity: IdentityKey
    device: DeviceKey
    discovery_secret: bytes
    bundle_number: int
    bundle_hash: bytes
    expires: int
    addresses: tuple[Address, ...] = ()
    relay: RelayAddress | None = None

    def encode(self) -> bytes:
        """Raises ValueError when the hints do not fit the limit; of the relay, one process does."""
        parts = [
            bytes([_VERSION]),
            self.identity,
            self.device,
            self.discovery_secret,
            self.bundle_number.to_bytes(4, "big"),
            self.bundle_hash,
            self.expires.to_bytes(8, "big"),
            bytes([len(self.addresses)]),
            *(_text(str(address)) for address in self.addresses),
            bytes([self.relay is not None]),
        ]
        if self.relay is not None:
            if self.relay.others:
                raise ValueError("a card names one process of a relay")
            parts += [_text(str(self.relay.address)), self.relay.device]
        body = b"".join(parts)
        data = body + _checksum(body)
        if len(data) > limits.CARD or len(self.addresses) > limits.CARD_ADDRESSES:
            raise ValueError(f"a card of {len(data)} bytes; the limit is {limits.CARD}")
        return data

    @classmethod
    def decode(cls, data: bytes) -> Card:
        """Raises Malformed."""
        if len(data) > limits.CARD:
            raise Malformed("oversized-card", f"{len(data)} bytes; the limit is {limits.CARD}")
        body, checksum = data[:-_CHECKSUM], data[-_CHECKSUM:]
        if _checksum(body) != checksum:
            raise Malformed(
                "damaged-card",
                "the card is damaged or cut short",
                hint="copy the whole card again, or scan the QR code",
            )
        try:
            return _read(_Cursor(body))
        except (ValueError, IndexError, Refused) as error:
            raise Malformed("malformed-card", "not a valid card") from error

    def __str__(self) -> str:
        return PREFIX + base64.urlsafe_b64encode(self.encode()).decode().rstrip("=")

    @classmethod
    def parse(cls, text: str) -> Card:
        """From the text form. Raises Malformed."""
        body = "".join(text.split())
        if not body.startswith(PREFIX):
            raise Malformed(
                "not-a-card", "not a card", hint=f"a card begins with {PREFIX!r} (see `whoami`)"
            )
        body = body.removeprefix(PREFIX)
        try:
            data = base64.b64decode(body + "=" * (-len(body) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError) as error:
            raise Malformed("damaged-card", "the card is damaged or cut short") from error
        return cls.decode(data)


class _Cursor:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def take(self, length: int) -> bytes:
        piece = self.data[self.at : self.at + length]
        if len(piece) != length:
            raise ValueError("cut short")
        self.at += length
        return piece

    def byte(self) -> int:
        return self.take(1)[0]


def _read(cursor: _Cursor) -> Card:
    if (version := cursor.byte()) != _VERSION:
        raise Malformed(
            "unknown-card-version", f"a card of version {version}", hint="upgrade this node"
        )
    identity, device = IdentityKey(cursor.take(32)), DeviceKey(cursor.take(32))
    secret = cursor.take(SECRET_LENGTH)
    number, bundle_hash = int.from_bytes(cursor.take(4), "big"), cursor.take(32)
    expires = int.from_bytes(cursor.take(8), "big")
    if (addresses := cursor.byte()) > limits.CARD_ADDRESSES:
        raise ValueError("too many addresses")
    hints = tuple(_address(cursor) for _ in range(addresses))
    if (relays := cursor.byte()) > 1:
        raise ValueError("too many relays")
    relay = RelayAddress(_address(cursor), DeviceKey(cursor.take(32))) if relays else None
    if cursor.at != len(cursor.data):
        raise ValueError("trailing bytes")
    return Card(identity, device, secret, number, bundle_hash, expires, hints, relay)


def _address(cursor: _Cursor) -> Address:
    return Address.parse(cursor.take(cursor.byte()).decode())


def _text(value: str) -> bytes:
    data = value.encode()
    return bytes([len(data)]) + data


def _checksum(body: bytes) -> bytes:
    return hashlib.sha256(body).digest()[:_CHECKSUM]
