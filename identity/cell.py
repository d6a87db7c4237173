"""Cells: where in the DHT a device leaves its endpoint record for those who hold its card.

A cell is of one device, one discovery secret and one UTC day. Whoever has neither card nor bundle
can tell neither whose it is nor that yesterday's and today's belong together. Its values are signed
by a key of that cell, which only the device can make; whoever knows the secret can put values of
its own beside them, and readers believe the signature inside alone.

    sealed = nonce (12) | ChaCha20-Poly1305(length 4, big-endian | record | zeros), AAD = cell id
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from identity.keys import KeyPair, device_from_seed
from schemas.errors import Malformed
from schemas.ids import DeviceKey, DhtId
from schemas.limits import DHT_RECORD, DHT_SEALED

DAY_S: Final = 86_400
_NONCE: Final = 12
_LENGTH: Final = 4
_INFO: Final = b"quicnprotochat dht cell v1"


@dataclass(frozen=True, slots=True)
class Cell:
    """`id`: the key in the DHT; `key`: what its values are sealed with (32 B)."""

    id: DhtId
    key: bytes = field(repr=False)


def cell_of(discovery_secret: bytes, device: DeviceKey, day: int) -> Cell:
    """The cell of `device` on a day, counted from 1970 (UTC)."""
    info = _INFO + device + day.to_bytes(8, "big")
    both = HKDF(hashes.SHA256(), 64, salt=None, info=info).derive(discovery_secret)
    return Cell(DhtId(both[:32]), both[32:])


def cell_signer(device: KeyPair[DeviceKey], cell: Cell) -> KeyPair[DeviceKey]:
    """Signs what the device puts into `cell`; nobody else can make it or tell whose it is."""
    return device_from_seed(device.derive(b"dht cell signer v1 " + cell.id))


def seal_into_cell(cell: Cell, record: bytes, random: Callable[[int], bytes] = os.urandom) -> bytes:
    """DHT_SEALED bytes, whatever the length. Raises ValueError above DHT_RECORD bytes."""
    if len(record) > DHT_RECORD:
        raise ValueError(f"a record of {len(record)} bytes; {DHT_RECORD} fit into a cell")
    padded = len(record).to_bytes(_LENGTH, "big") + record.ljust(DHT_RECORD, b"\0")
    nonce = random(_NONCE)
    return nonce + ChaCha20Poly1305(cell.key).encrypt(nonce, padded, cell.id)


def open_cell_untrusted(cell: Cell, sealed: bytes) -> bytes:
    """The record's bytes. Raises Malformed `cannot-open`."""
    if len(sealed) != DHT_SEALED:
        raise Malformed("cannot-open", "not of the one length that values have")
    try:
        padded = ChaCha20Poly1305(cell.key).decrypt(sealed[:_NONCE], sealed[_NONCE:], cell.id)
    except InvalidTag as error:
        raise Malformed("cannot-open", "not sealed for this cell, or damaged") from error
    length = int.from_bytes(padded[:_LENGTH], "big")
    if length > DHT_RECORD:
        raise Malformed("cannot-open", "a length that cannot be")
    return padded[_LENGTH : _LENGTH + length]
