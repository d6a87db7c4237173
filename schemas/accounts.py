"""Accounts at a relay, as both sides must see them: names, and how OPAQUE's messages are framed.

A name has one form, which is also its own normal form: `Ann` and `ANN` are `ann`.
"""

from __future__ import annotations

import unicodedata
from typing import Any, Final

from schemas.capnp_codec import exactly
from schemas.errors import Malformed
from schemas.ids import DeviceKey

ACCESS_TOKEN: Final = 32  # bytes of a session's token, and of an invite's
LOGIN_ID: Final = 16
NAME_CHARACTERS: Final = range(2, 33)
NAME_BYTES: Final = 64  # UTF-8

# OPAQUE's messages (RFC 9807, ristretto255 and SHA-512), without the version in front
REGISTRATION_REQUEST: Final = 32
REGISTRATION_RESPONSE: Final = 64
REGISTRATION_UPLOAD: Final = 192
LOGIN_REQUEST: Final = 96
LOGIN_RESPONSE: Final = 320
LOGIN_FINALIZATION: Final = 64

_LETTERS: Final = ("Ll", "Lo", "Lm", "Mn", "Mc")
_BETWEEN: Final = "._-"
_INVISIBLE: Final = ("FILLER", "SELECTOR", "INHERENT")  # words in the names of letters unseen
_MIXED: Final = frozenset(
    {"CJK", "HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA", "IDEOGRAPHIC", "HANGUL", "BOPOMOFO"}
)


def account_name(value: str) -> str:
    """The name that `value` means: folded, in form NFKC.

    2 to 32 letters and digits of one script, single `.`, `_` and `-` between them; letters of
    several scripts could look like somebody else's name. Raises Malformed `bad-name`.
    """
    if len(value) <= 4 * NAME_BYTES:  # longer ones are not worth the work
        name = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", value).casefold())
        if (
            len(name) in NAME_CHARACTERS
            and len(name.encode("utf-8", "replace")) <= NAME_BYTES
            and _well_formed(name)
        ):
            return name
    raise Malformed(
        "bad-name",
        "not a name that an account can have",
        hint="2 to 32 letters and digits of one script, with . _ or - between them",
    )


def _well_formed(name: str) -> bool:
    before = _BETWEEN[0]
    scripts = set()
    for character in name:
        if character in _BETWEEN:
            if before in _BETWEEN:
                return False
        elif not (character.isascii() and character.isdigit()):
            if unicodedata.category(character) not in _LETTERS:
                return False
            words = unicodedata.name(character, "").split()
            if not words or not set(_INVISIBLE).isdisjoint(words):
                return False
            scripts.add("MIXED" if words[0] in _MIXED else words[0])
        before = character
    return before not in _BETWEEN and len(scripts) <= 1


def framed(ksf: int, message: bytes) -> bytes:
    """An OPAQUE message with the version of the key stretching before it."""
    return bytes([ksf]) + message


def unframed(value: Any, length: int) -> tuple[int, bytes]:
    """(version of the key stretching, OPAQUE message of `length` bytes). Raises ValueError."""
    data = exactly(value, 1 + length)
    return data[0], data[1:]


def login_context(relay: DeviceKey, device: DeviceKey) -> bytes:
    """OPAQUE's context: a login counts between these two keys, as TLS has proven them, only."""
    return b"quicnprotochat login v1" + relay + device
