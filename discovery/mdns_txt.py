"""The TXT record of a node on the LAN; pure (RFC 6763, section 6).

For everyone: `v=1`, `d=` device key in 64 hex digits, `n=` display name in UTF-8. For contacts:
`v=2`, `e=` day since 1970 in decimal digits, `t=` tag in 32 hex digits (`lan_tags`). Keys that this
version does not know are skipped, so that later ones can add some.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from discovery.lan_tags import TAG_BYTES, Tag
from schemas.errors import Malformed
from schemas.ids import DeviceKey
from schemas.limits import DISPLAY_NAME

VERSION: Final = b"1"
TAGGED: Final = b"2"
_DAY_DIGITS: Final = 7  # the year 9999 has seven
TXT_BYTES: Final = 512  # far above what we write; RFC 6763 says to stay below 1,300

# Joiners and direction marks that names in Persian, Hebrew, Indic scripts and emoji need. Other
# format characters can turn a terminal's text around or hide.
_FORMAT_CHARACTERS_ALLOWED: Final = frozenset("\u200c\u200d\u200e\u200f")


@dataclass(frozen=True, slots=True)
class TxtRecord:
    """What a node says about itself on the LAN. Nothing proves it."""

    device: DeviceKey
    name: str

    def encode(self) -> bytes:
        """As length-prefixed `key=value` strings; the name in the form `fit_name` gives it."""
        fields = (
            b"v=" + VERSION,
            b"d=" + self.device.hex().encode(),
            b"n=" + fit_name(self.name).encode(),
        )
        return _strings(fields)


def encode_tag(tag: Tag) -> bytes:
    """What a node says that shows itself to contacts alone."""
    day = b"e=" + str(tag.day).encode()
    return _strings((b"v=" + TAGGED, day, b"t=" + tag.tag.hex().encode()))


def parse_txt_untrusted(data: bytes) -> TxtRecord | Tag:
    """The node described by TXT bytes from the network, or the tag of one.

    Raises Malformed: `oversized-txt`, `malformed-txt`, `unknown-version`, `bad-device-key`,
    `bad-name` (longer than DISPLAY_NAME bytes, not UTF-8, control or hiding characters), `bad-tag`.
    """
    fields = _fields_untrusted(data)
    if fields.get(b"v") == TAGGED:
        return _tag_untrusted(fields)
    if fields.get(b"v") != VERSION:
        raise Malformed(
            "unknown-version", "a LAN peer of another version", hint="upgrade the older node"
        )
    key = fields.get(b"d", b"")
    try:
        device = DeviceKey.from_hex(key.decode("ascii"))
    except ValueError:
        raise Malformed("bad-device-key", "a LAN peer without a device key") from None
    if key != device.hex().encode():  # fromhex() also takes blanks and capitals
        raise Malformed("bad-device-key", "a LAN peer with an odd device key")
    try:
        name = fields.get(b"n", b"").decode()
    except UnicodeDecodeError:
        raise Malformed("bad-name", "a LAN peer whose name is not text") from None
    if name != fit_name(name):
        raise Malformed("bad-name", "a LAN peer whose name could not be shown safely")
    return TxtRecord(device, name)


def fit_name(name: str) -> str:
    """`name` without characters that forge or hide text, cut to DISPLAY_NAME bytes of UTF-8."""
    kept = "".join(filter(_shows, name)).strip()
    return kept.encode()[:DISPLAY_NAME].decode(errors="ignore").strip()


def _shows(character: str) -> bool:
    category = unicodedata.category(character)
    if category == "Cf":
        return character in _FORMAT_CHARACTERS_ALLOWED
    return category not in ("Cc", "Cs", "Zl", "Zp")


def _tag_untrusted(fields: Mapping[bytes, bytes]) -> Tag:
    day, tag = fields.get(b"e", b""), fields.get(b"t", b"")
    try:
        found = Tag(int(day.decode("ascii")), bytes.fromhex(tag.decode("ascii")))
    except ValueError:
        raise Malformed("bad-tag", "a LAN peer without a tag") from None
    # int() and fromhex() also take signs, blanks and capitals
    if not 0 < len(day) <= _DAY_DIGITS or len(found.tag) != TAG_BYTES:
        raise Malformed("bad-tag", "a LAN peer with a tag of another length")
    if str(found.day).encode() != day or found.day < 0 or found.tag.hex().encode() != tag:
        raise Malformed("bad-tag", "a LAN peer with an odd tag")
    return found


def _strings(fields: Iterable[bytes]) -> bytes:
    return b"".join(bytes([len(field)]) + field for field in fields)


def _fields_untrusted(data: bytes) -> dict[bytes, bytes]:
    if len(data) > TXT_BYTES:
        raise Malformed("oversized-txt", f"{len(data)} bytes; the limit is {TXT_BYTES}")
    fields: dict[bytes, bytes] = {}
    at = 0
    while at < len(data):
        end = at + 1 + data[at]
        if end > len(data):
            raise Malformed("malformed-txt", "a TXT record that ends in the middle")
        key, _, value = data[at + 1 : end].partition(b"=")
        fields.setdefault(key.lower(), value)  # RFC 6763, section 6.4: the first one counts
        at = end
    return fields
