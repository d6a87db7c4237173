"""The TXT record of a node on the LAN: version, device key, display name; pure.

`v=1`, `d=` device key in 64 hex digits, `n=` display name in UTF-8 (RFC 6763, section 6). Keys
that this version does not know are skipped, so later versions can add (contacts-only visibility
will add keyed tags in place of `d` and `n`, under a version of its own).
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from typing import Final

from schemas.errors import Malformed
from schemas.ids import DeviceKey
from schemas.limits import DISPLAY_NAME

VERSION: Final = b"1"
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
        return b"".join(bytes([len(field)]) + field for field in fields)


def parse_txt_untrusted(data: bytes) -> TxtRecord:
    """The node described by TXT bytes from the network.

    Raises Malformed: `oversized-txt`, `malformed-txt`, `unknown-version`, `bad-device-key`,
    `bad-name` (longer than DISPLAY_NAME bytes, not UTF-8, control or hiding characters).
    """
    fields = _fields_untrusted(data)
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
