"""Messages that are small on the wire and large when read; each bound by itself.

32 bytes once became eight million list elements, 61 MiB and half a second of CPU.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Callable
from typing import Any

import pytest

from schemas import capnp_codec, frames, limits
from schemas.errors import Malformed
from tests.schemas.test_codecs import DECODERS

TOUCHED = 100_000  # what an unbounded reader would go through and beyond


def endless_list(count: int) -> bytes:
    """A BundleResponse whose list of endpoints claims `count` elements of no size."""
    words = list(struct.iter_unpack("<Q", frames.encode_frame(frames.BundleResponse(None, ()))))
    lists = [at for at, (word,) in enumerate(words) if word & 3 == 1 and word >> 32 & 7 == 7]
    assert len(lists) == 1
    claimed = [1 | count << 35 if at == lists[0] else word for at, (word,) in enumerate(words)]
    return struct.pack(f"<{len(claimed)}Q", *claimed)


def test_a_list_of_nothings_is_not_walked() -> None:
    """The traversal limit, also where nobody counts before."""
    schema = capnp_codec.load("frame.capnp").Frame
    data = endless_list(2**29 - 1)
    assert len(data) < 100
    walked = 0

    def walk() -> None:
        nonlocal walked
        with capnp_codec.reading(schema, data, limit=limits.FRAME, what="frame") as reader:
            walked = sum(1 for _ in itertools.islice(reader.bundleResponse.endpoints, TOUCHED))

    with pytest.raises(Malformed):
        walk()
    assert walked == 0


def test_the_decoder_refuses_it() -> None:
    with pytest.raises(Malformed):
        frames.decode_frame(endless_list(2**29 - 1))


class Huge:
    """A list that must not be looked into."""

    def __len__(self) -> int:
        return 1_000_000

    def __iter__(self) -> Any:
        raise AssertionError("it was touched")


def test_a_list_is_counted_before_it_is_touched() -> None:
    with pytest.raises(ValueError, match="too long"):
        capnp_codec.items(Huge(), 8, bytes)


@pytest.mark.parametrize("decode", DECODERS, ids=lambda each: each.__qualname__)
def test_too_long_is_an_error_of_its_own(decode: Callable[[bytes], object]) -> None:
    """Told from garbage, and before a byte of it is parsed."""
    with pytest.raises(Malformed) as caught:
        decode(bytes(2 * limits.FRAME))
    assert caught.value.code.startswith("oversized-")
