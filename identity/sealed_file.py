"""Files that a passphrase opens, `QPCE`: Argon2id (RFC 9106), then ChaCha20-Poly1305 (RFC 8439).

Layout, integers little-endian (docs/file-formats.md): magic "QPCE" | version 1 (1) | lanes (1) |
passes (2) | memory in KiB (4) | salt (16) | nonce (12) | ciphertext and tag. All of the header is
associated data.
"""

from __future__ import annotations

import os
import struct
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from schemas.errors import Refused

MAGIC: Final = b"QPCE"
VERSION: Final = 1
SALT_LENGTH: Final = 16
NONCE_LENGTH: Final = 12
TAG_LENGTH: Final = 16
CONTENT_LIMIT: Final = 512 * 1024 * 1024  # sealed in one piece, in memory
PASSPHRASE_LIMIT: Final = 1024  # bytes
_HEADER: Final = struct.Struct(f"<4sBBHI{SALT_LENGTH}s{NONCE_LENGTH}s")


@dataclass(frozen=True, slots=True)
class Cost:
    """What one guess costs: memory in KiB, passes over it, lanes (RFC 9106 section 3.1)."""

    memory_kib: int = 64 * 1024
    passes: int = 3
    lanes: int = 4

    @property
    def bearable(self) -> bool:
        """A file chooses its own cost: at most 1 GiB, and about half a minute."""
        return (
            1 <= self.lanes <= 16
            and 1 <= self.passes <= 16
            and 8 * self.lanes <= self.memory_kib <= 1024 * 1024
        )


DEFAULT_COST: Final = Cost()


def normalised(passphrase: str) -> bytes:
    """The passphrase's bytes, the same on every keyboard: NFC, UTF-8.

    Raises Refused `bad-passphrase` when it is empty, or longer than 1,024 bytes.
    """
    data = unicodedata.normalize("NFC", passphrase).encode()
    if not 0 < len(data) <= PASSPHRASE_LIMIT:
        raise Refused("bad-passphrase", f"a passphrase is 1 to {PASSPHRASE_LIMIT} bytes")
    return data


def seal_file(
    passphrase: bytes,
    content: bytes,
    *,
    cost: Cost = DEFAULT_COST,
    random: Callable[[int], bytes] = os.urandom,
) -> bytes:
    """The whole file, 56 bytes longer than its content. Raises Refused `too-large`."""
    if len(content) > CONTENT_LIMIT:
        raise Refused("too-large", f"a sealed file holds at most {CONTENT_LIMIT} bytes")
    if not cost.bearable:
        raise ValueError(f"nobody would open a file of {cost}")
    salt, nonce = random(SALT_LENGTH), random(NONCE_LENGTH)
    header = _HEADER.pack(MAGIC, VERSION, cost.lanes, cost.passes, cost.memory_kib, salt, nonce)
    return header + _cipher(passphrase, salt, cost).encrypt(nonce, content, header)


def open_file_untrusted(passphrase: bytes, data: bytes) -> bytes:
    """The content.

    Raises Refused and nothing else: `not-a-sealed-file`, `sealed-file-newer`,
    `sealed-file-too-costly`; `wrong-passphrase` for a changed file as well: nobody can tell.
    """
    if data[: len(MAGIC)] != MAGIC or len(data) < _HEADER.size + TAG_LENGTH:
        raise Refused("not-a-sealed-file", "this is not a sealed file, or not all of it")
    _, version, lanes, passes, memory_kib, salt, nonce = _HEADER.unpack_from(data)
    if version != VERSION:
        raise Refused(
            "sealed-file-newer",
            f"a sealed file of version {version}; this program knows {VERSION}",
            hint="upgrade this program",
        )
    cost = Cost(memory_kib, passes, lanes)
    if not cost.bearable or len(data) > CONTENT_LIMIT + _HEADER.size + TAG_LENGTH:
        raise Refused("sealed-file-too-costly", "a sealed file that asks for too much")
    try:
        cipher = _cipher(passphrase, salt, cost)
        return cipher.decrypt(nonce, data[_HEADER.size :], data[: _HEADER.size])
    except InvalidTag:
        raise Refused(
            "wrong-passphrase",
            "the passphrase is wrong, or the file was changed",
            hint="check the passphrase, its capitals and the keyboard's layout",
        ) from None
    except MemoryError:
        raise Refused("sealed-file-too-costly", "not enough memory to open the file") from None


def _cipher(passphrase: bytes, salt: bytes, cost: Cost) -> ChaCha20Poly1305:
    key = Argon2id(
        salt=salt,
        length=32,
        iterations=cost.passes,
        lanes=cost.lanes,
        memory_cost=cost.memory_kib,
    ).derive(passphrase)
    return ChaCha20Poly1305(key)
