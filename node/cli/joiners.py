"""Where ZERO WIDTH JOINER and NON-JOINER mean something, after RFC 5892, appendix A.1 and A.2.

Elsewhere (between Latin letters, say) they are invisible, and two names that differ in one only
would look the same.
"""

from __future__ import annotations

import unicodedata
from typing import Final

_NON_JOINER: Final = "\u200c"
_JOINER: Final = "\u200d"
_VIRAMA: Final = 9  # the canonical combining class of viramas
_DRESS: Final = frozenset("\ufe0e\ufe0f\U0001f3fb\U0001f3fc\U0001f3fd\U0001f3fe\U0001f3ff")


def joins(text: str, at: int) -> bool:
    """Whether the character at `at` is a joiner or non-joiner that its neighbours call for."""
    if text[at] not in (_JOINER, _NON_JOINER) or not 0 < at < len(text) - 1:
        return False
    before, after = text[at - 1], text[at + 1]
    if unicodedata.combining(before) == _VIRAMA:
        return True
    if unicodedata.bidirectional(before) == unicodedata.bidirectional(after) == "AL":
        return True
    return text[at] == _JOINER and _is_emoji(_undressed(text, at - 1)) and _is_emoji(after)


def _undressed(text: str, at: int) -> str:
    """The character at `at`, or the one that a skin tone or variation selector there belongs to."""
    while at > 0 and text[at] in _DRESS:
        at -= 1
    return text[at]


def _is_emoji(character: str) -> bool:
    # The arrows of "shaking head" are mathematical symbols, not emoji, to Unicode.
    return unicodedata.category(character) == "So" or character in "\u2194\u2195"
