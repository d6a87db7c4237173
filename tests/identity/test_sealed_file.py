"""QPCE files: nobody without the passphrase reads one, and no file makes us work for ever."""

from __future__ import annotations

import re
import struct
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidTag
from hypothesis import given
from hypothesis import strategies as st

from identity import sealed_file
from identity.sealed_file import Cost, normalised, open_file_untrusted, seal_file
from schemas.errors import Refused

CHEAP = Cost(memory_kib=32, passes=1, lanes=1)
DOCUMENT = Path(__file__).parents[2] / "docs" / "file-formats.md"
GOOD = seal_file(b"open sesame", b"treasure", cost=CHEAP)


def refusal(data: bytes, passphrase: bytes = b"open sesame") -> str:
    with pytest.raises(Refused) as raised:
        open_file_untrusted(passphrase, data)
    return raised.value.code


def test_what_was_sealed_is_opened_by_the_same_passphrase_only() -> None:
    assert open_file_untrusted(b"open sesame", GOOD) == b"treasure"
    assert refusal(GOOD, b"open sesamE") == "wrong-passphrase"
    assert b"treasure" not in GOOD
    again = seal_file(b"open sesame", b"treasure", cost=CHEAP)
    assert not {GOOD[i : i + 8] for i in range(12, 60, 8)} & {
        again[12 + i :][:8] for i in range(48)
    }


def test_every_bit_of_a_file_is_authenticated() -> None:
    """The header too: else a relay of files could lower the cost of guessing."""
    for position in range(len(GOOD)):
        for bit in (1, 0x80):
            changed = bytearray(GOOD)
            changed[position] ^= bit
            assert refusal(bytes(changed))
    assert refusal(GOOD + b"\0") == "wrong-passphrase"
    assert refusal(GOOD[:-1]) == "wrong-passphrase"


def test_the_header_is_associated_data() -> None:
    """Same key, same nonce, another header: the cost's own bytes do not change the key's input
    when they are swapped for others of the same meaning, so only associated data can hold them."""
    header, body = bytearray(GOOD[:40]), GOOD[40:]
    cipher = sealed_file._cipher(b"open sesame", bytes(header[12:28]), CHEAP)
    assert cipher.decrypt(bytes(header[28:40]), body, bytes(header)) == b"treasure"
    header[4] ^= 3
    with pytest.raises(InvalidTag):
        cipher.decrypt(bytes(header[28:40]), body, bytes(header))


@pytest.mark.parametrize(
    "memory_kib, passes, lanes",
    [(2**32 - 1, 3, 4), (64, 65_535, 1), (1024, 1, 255), (1, 1, 1), (0, 0, 0), (64, 0, 1)],
)
def test_a_file_cannot_ask_for_all_memory_or_all_day(
    monkeypatch: pytest.MonkeyPatch, memory_kib: int, passes: int, lanes: int
) -> None:
    monkeypatch.setattr(sealed_file, "_cipher", lambda *_: pytest.fail("it was computed"))
    hostile = GOOD[:4] + struct.pack("<BBHI", 1, lanes, passes, memory_kib) + GOOD[12:]
    assert refusal(hostile) == "sealed-file-too-costly"


def test_other_files_and_newer_versions_are_told_apart() -> None:
    assert refusal(b"") == refusal(b"QPCE") == refusal(b"PK\3\4" + GOOD) == "not-a-sealed-file"
    assert refusal(GOOD[:4] + b"\2" + GOOD[5:]) == "sealed-file-newer"


@given(st.binary(max_size=200), st.binary(max_size=80))
def test_no_bytes_raise_anything_else(start: bytes, rest: bytes) -> None:
    header = GOOD[:12]  # of a cheap cost: what fuzzing is about is behind it
    for data in (start, b"QPCE" + start, header + start + rest):
        with pytest.raises(Refused):
            open_file_untrusted(b"x", data)


def test_passphrases_are_the_same_from_every_keyboard() -> None:
    assert normalised("caf\u00e9") == normalised("cafe\u0301")
    for bad in ("", "x" * 1025):
        with pytest.raises(Refused, match="1 to 1024"):
            normalised(bad)


def test_the_example_of_the_documentation_is_exact() -> None:
    """Other programs are written after it."""
    fields = dict(re.findall(r"^\| (\w+) \| `([0-9a-f]+)` \|$", DOCUMENT.read_text(), re.M))
    given_random = iter([bytes.fromhex(fields["salt"]), bytes.fromhex(fields["nonce"])])
    sealed = seal_file(
        bytes.fromhex(fields["passphrase"]),
        bytes.fromhex(fields["content"]),
        random=lambda length: next(given_random),
    )
    assert sealed.hex() == fields["file"]
    assert open_file_untrusted(bytes.fromhex(fields["passphrase"]), sealed) == bytes.fromhex(
        fields["content"]
    )
