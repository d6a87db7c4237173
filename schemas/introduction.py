"""Introductions: what a person needs to seal to another and to invite them, with no network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from schemas import limits
from schemas.capnp_codec import items, load, reading, sized
from schemas.ids import IdentityKey
from schemas.records import Signed, fill_signed, read_signed

_parcel = load("parcel.capnp")

INTRODUCTION: Final = (
    limits.INTRODUCTION_KEY_PACKAGES * limits.KEY_PACKAGE + limits.BUNDLE + limits.KIB
)


@dataclass(frozen=True, slots=True)
class Introduction:
    """A bundle core, and KeyPackages (MLSMessages) of its devices for one reader alone."""

    reader: IdentityKey
    core: Signed
    key_packages: tuple[bytes, ...]

    def encode(self) -> bytes:
        message = _parcel.Introduction.new_message()
        message.reader = bytes(self.reader)
        fill_signed(message.init("core"), self.core)
        message.keyPackages = list(self.key_packages)
        return bytes(message.to_bytes())

    @classmethod
    def decode(cls, data: bytes) -> Introduction:
        """Raises Malformed."""
        with reading(_parcel.Introduction, data, limit=INTRODUCTION, what="introduction") as reader:
            return cls(
                IdentityKey(reader.reader),
                read_signed(reader.core, limits.BUNDLE),
                items(
                    reader.keyPackages,
                    limits.INTRODUCTION_KEY_PACKAGES,
                    lambda data: sized(data, limits.KEY_PACKAGE),
                ),
            )
