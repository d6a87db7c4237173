"""To whom a node shows itself: what the user chose."""

from __future__ import annotations

from enum import StrEnum


class LanVisibility(StrEnum):
    """On the local network. docs/networking.md says what each tells to whom."""

    EVERYONE = "everyone"  # name and device key, for anybody there
    CONTACTS = "contacts"  # a tag that means something to holders of our card alone
    OFF = "off"  # not seen, and nobody is looked for


class DhtVisibility(StrEnum):
    """In the DHT. docs/networking.md says what each tells to whom."""

    PRIVATE = "private"  # found by holders of our card alone
    PUBLIC = "public"  # found by whoever knows the device key
    OFF = "off"  # not found there; others are looked for
