"""A sealed blob opens to what was sealed, or not at all."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable

import pytest
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from hypothesis import given
from hypothesis import strategies as st

from identity.sealed_blob import PIECE, open_blob_untrusted, seal_blob, sealed_size
from schemas.errors import Malformed

PLAIN = PIECE - 16
SIZES = [0, 1, 1000, PLAIN - 8, PLAIN - 7, 2 * PLAIN - 8, 5 * PLAIN]


def sealed(content: bytes) -> tuple[bytes, list[bytes]]:
    key, pieces = seal_blob(len(content), [content])
    return key, list(pieces)


def opened(key: bytes, pieces: Iterable[bytes]) -> bytes:
    return b"".join(open_blob_untrusted(key, pieces))


@pytest.mark.parametrize("size", SIZES)
def test_it_opens_to_what_was_sealed(size: int) -> None:
    content = os.urandom(size)
    key, pieces = sealed(content)
    assert opened(key, pieces) == content
    assert sum(map(len, pieces)) == sealed_size(size)
    assert [len(each) for each in pieces[:-1]] == [PIECE] * (len(pieces) - 1)


@given(st.lists(st.binary(max_size=100), max_size=5))
def test_the_portions_in_which_it_comes_make_no_difference(portions: list[bytes]) -> None:
    size = sum(map(len, portions))
    key, pieces = seal_blob(size, portions)
    assert opened(key, pieces) == b"".join(portions)


def test_the_format_is_the_documented_one() -> None:
    """Sealed here without the module: nonce = number (11) | last (1)."""
    key, content = os.urandom(32), os.urandom(PLAIN)
    padded = len(content).to_bytes(8, "big") + content
    padded = padded.ljust(len(opened_size(padded)), b"\0")
    cipher = ChaCha20Poly1305(key)
    pieces = [
        cipher.encrypt(bytes(11) + b"\0", padded[:PLAIN], None),
        cipher.encrypt(bytes(10) + b"\1\1", padded[PLAIN:], None),
    ]
    assert opened(key, pieces) == content
    assert sum(map(len, pieces)) == sealed_size(len(content))


def opened_size(padded: bytes) -> bytes:
    """As many bytes as Padmé makes of these: 262,136 + 8 has 18 bits, of which 5 stay."""
    step = 1 << (17 - 5)
    return bytes(-(-len(padded) // step) * step)


def test_the_length_is_hidden_within_its_class_at_little_cost() -> None:
    assert len({sealed_size(size) for size in range(100_000, 102_000)}) <= 3
    for size in (10_000, 123_456, 10**6, 10**8):
        assert size < sealed_size(size) < 1.12 * size + 100


def test_what_was_changed_moved_or_cut_off_does_not_open() -> None:
    key, pieces = sealed(os.urandom(3 * PLAIN))
    assert len(pieces) == 4
    flipped = bytearray(pieces[1])
    flipped[1000] ^= 1
    wrong = {
        "changed": [pieces[0], bytes(flipped), *pieces[2:]],
        "moved": [pieces[1], pieces[0], *pieces[2:]],
        "left out": [pieces[0], *pieces[2:]],
        "twice": [pieces[0], *pieces],
        "cut off": pieces[:-1],
        "cut off within": [*pieces[:-1], pieces[-1][:-1]],
        "longer": [*pieces, pieces[-1]],
        "nothing": [],
        "empty": [b""],
        "another's": sealed(os.urandom(3 * PLAIN))[1],
    }
    for name, each in wrong.items():
        with pytest.raises(Malformed) as raised:
            opened(key, each)
        assert raised.value.code == "blob-damaged", name


def test_no_two_blobs_have_one_key() -> None:
    assert sealed(b"same")[0] != sealed(b"same")[0]


@pytest.mark.parametrize("said", [9, 11])
def test_content_of_another_size_is_not_sealed(said: int) -> None:
    _, pieces = seal_blob(said, [b"ten bytes."])
    with pytest.raises(ValueError, match="the content is"):
        list(pieces)


def test_a_length_that_is_longer_than_what_is_there_does_not_open() -> None:
    """By whoever has the key: a peer."""
    key = os.urandom(32)
    lie = ChaCha20Poly1305(key).encrypt(bytes(11) + b"\1", (100).to_bytes(8, "big") + b"x", None)
    with pytest.raises(Malformed):
        opened(key, [lie])
    short = ChaCha20Poly1305(key).encrypt(bytes(11) + b"\1", b"\0", None)
    assert opened(key, [short]) == b""


def test_it_holds_a_piece_at_a_time() -> None:
    taken = 0

    def content() -> Iterable[bytes]:
        nonlocal taken
        source = io.BytesIO(os.urandom(20 * PLAIN))
        while portion := source.read(10_000):
            taken += len(portion)
            yield portion

    _, pieces = seal_blob(20 * PLAIN, content())
    next(pieces)
    assert taken <= PLAIN + 10_000
