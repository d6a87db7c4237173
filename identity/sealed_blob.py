"""Blobs: content of any length, sealed in pieces under a key of its own, for a relay to keep.

STREAM (Hoang, Reyhanitabar, Rogaway, Vizár, CRYPTO 2015) over ChaCha20-Poly1305 (RFC 8439), as age
has it: a piece that is changed, moved, left out or cut off is noticed, the last one says that it is
the last. The length is rounded up by Padmé (PETS 2019), which costs 12 % at most and leaves an
observer log log of it to learn. Integers are big-endian (docs/file-formats.md).

    content, padded = length (8) | content | zeros
    piece i = ChaCha20-Poly1305(key, nonce = i (11) | last (1)), of 256 KiB with its tag
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from schemas.errors import Malformed
from schemas.limits import BLOB_CHUNK

KEY_LENGTH: Final = 32
PIECE: Final = BLOB_CHUNK  # sealed; one chunk of an upload
_TAG: Final = 16
_PLAIN: Final = PIECE - _TAG
_LENGTH: Final = 8


def sealed_size(size: int) -> int:
    """Bytes of the sealed form of `size` bytes."""
    padded = _padme(_LENGTH + size)
    return padded + _TAG * -(-padded // _PLAIN)


def seal_blob(
    size: int, content: Iterable[bytes], *, random: Callable[[int], bytes] = os.urandom
) -> tuple[bytes, Iterator[bytes]]:
    """(a new key, the sealed pieces) of `content`, which is `size` bytes in portions of any length.

    To be kept as sealed, and sent from there: sealing what has changed meanwhile under the same key
    would use its nonces twice, so nobody can give one. Raises ValueError, while the pieces are
    taken, when the content has another size.
    """
    key = random(KEY_LENGTH)
    return key, _seal(key, size, content)


def _seal(key: bytes, size: int, content: Iterable[bytes]) -> Iterator[bytes]:
    cipher = ChaCha20Poly1305(key)
    number = -(-_padme(_LENGTH + size) // _PLAIN)
    for index, plain in enumerate(_cut(_padded(size, content))):
        yield cipher.encrypt(_nonce(index, last=index + 1 == number), plain, None)


def open_blob_untrusted(key: bytes, pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The content, a portion for each piece. What came is not to be used before the iterator ends.

    Raises Malformed `blob-damaged` for whatever is not all of what was sealed with this key.
    """
    cipher = ChaCha20Poly1305(key)
    left = -1  # of the content; the first piece says how much there is
    source = iter(pieces)
    piece = next(source, None)
    index = 0
    while piece is not None:
        following = next(source, None)
        try:
            plain = cipher.decrypt(_nonce(index, last=following is None), piece, None)
        except InvalidTag:
            raise _damaged() from None
        if left < 0:
            left = int.from_bytes(plain[:_LENGTH], "big")
            plain = plain[_LENGTH:]
        yield plain[:left]
        left -= min(left, len(plain))
        piece, index = following, index + 1
    if left:
        raise _damaged()


def _padme(size: int) -> int:
    """Padmé: a floating-point number whose mantissa is no longer than its exponent, rounded up."""
    exponent = size.bit_length() - 1
    free_bits = exponent - exponent.bit_length()
    mask = (1 << max(free_bits, 0)) - 1
    return (size + mask) & ~mask


def _padded(size: int, content: Iterable[bytes]) -> Iterator[bytes]:
    yield size.to_bytes(_LENGTH, "big")
    left = size
    for portion in content:
        left -= len(portion)
        if left < 0:
            raise ValueError("the content is longer than it was said to be")
        yield portion
    if left:
        raise ValueError("the content is shorter than it was said to be")
    zeros = _padme(_LENGTH + size) - _LENGTH - size
    while zeros:
        portion = bytes(min(zeros, _PLAIN))
        zeros -= len(portion)
        yield portion


def _cut(portions: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes in portions of _PLAIN; the last may be shorter."""
    held = bytearray()
    for portion in portions:
        for start in range(0, len(portion), _PLAIN):
            held += portion[start : start + _PLAIN]
            if len(held) >= _PLAIN:
                yield bytes(held[:_PLAIN])
                del held[:_PLAIN]
    if held:
        yield bytes(held)


def _nonce(index: int, *, last: bool) -> bytes:
    return index.to_bytes(11, "big") + bytes([last])


def _damaged() -> Malformed:
    return Malformed("blob-damaged", "these are not the bytes that were sealed with this key")
