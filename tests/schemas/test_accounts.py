"""Names of accounts: one form each, and none that looks like another by a trick."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.accounts import NAME_BYTES, NAME_CHARACTERS, account_name, framed, unframed
from schemas.errors import Malformed


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("ann", "ann"),
        ("Ann", "ann"),
        ("ANN.B-c_9", "ann.b-c_9"),
        ("Straße", "strasse"),
        ("Zoe\u0308", "zoë"),
        ("\uff21\uff2e\uff2e", "ann"),  # full width
        ("\u212baron", "åaron"),  # the sign of ångström
        ("мария", "мария"),
        ("山田ハナ", "山田ハナ"),
        ("김철수", "김철수"),
        ("مريم7", "مريم7"),
    ],
)
def test_a_name_has_one_form(written: str, name: str) -> None:
    assert account_name(written) == unicodedata.normalize("NFKC", name)


@pytest.mark.parametrize(
    "name",
    [
        "", "a", "a" * 33, "ж" * 33, "x" * 10_000,
        ".ann", "ann-", "a..b", "a b", "a\tb", "a\0b", "a\nb", "a/b", "a@b", "ann\u200b",
        "a\u202eb", "\ud800x", "ann😀", "\u0430nn", "payp\u0430l", "\u03b1nn", "ann\u0301\u0301",
        "ann\u034f", "ann\ufe0f", "한\u3164", "\u3164\u3164", "٣٤", "--", "a'b",
        "\U0010ffff\U0010ffff",
    ],
)  # fmt: skip
def test_odd_names_are_refused(name: str) -> None:
    with pytest.raises(Malformed) as raised:
        account_name(name)
    assert raised.value.code == "bad-name"
    assert name not in raised.value.message or len(name) < 2, "an answer repeats nobody's bytes"


@given(st.text(max_size=40))
def test_whatever_is_taken_is_its_own_form(text: str) -> None:
    try:
        name = account_name(text)
    except Malformed:
        return
    assert account_name(name) == name == name.casefold()
    assert len(name) in NAME_CHARACTERS
    assert len(name.encode()) <= NAME_BYTES


def test_a_message_has_its_version_in_front() -> None:
    assert unframed(framed(1, b"abc"), 3) == (1, b"abc")
    for wrong in (b"", b"\1ab", b"\1abcd"):
        with pytest.raises(ValueError, match="4 bytes"):
            unframed(wrong, 3)
