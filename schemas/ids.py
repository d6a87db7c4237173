"""Domain types for the byte strings that name things; frozen, validated, hex in `repr`."""

from __future__ import annotations

import os
from typing import ClassVar, Self


class Id(bytes):
    """A byte string of one fixed length that names one kind of thing.

    Subclasses are `bytes`, so they go into SQL as they are and compare equal to the same bytes;
    type checkers keep the kinds apart. (pycapnp insists on plain bytes: codecs write `bytes(id)`.)
    """

    __slots__ = ()
    LENGTH: ClassVar[int] = 0

    def __new__(cls, value: bytes) -> Self:
        if len(value) != cls.LENGTH:
            raise ValueError(f"{cls.__name__} is {cls.LENGTH} bytes, not {len(value)}")
        return super().__new__(cls, value)

    @classmethod
    def from_hex(cls, text: str) -> Self:
        """Raises ValueError when `text` is not `2 * LENGTH` hex digits."""
        return cls(bytes.fromhex(text))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.hex()[:12]})"

    def __str__(self) -> str:
        return self.hex()


class IdentityKey(Id):
    """A person: Ed25519 public key; what users see, compare and type."""

    __slots__ = ()
    LENGTH = 32


class DeviceKey(Id):
    """One node of a person: Ed25519 public key of its TLS certificate, MLS leaf and records."""

    __slots__ = ()
    LENGTH = 32


class DhtId(Id):
    """A place in the DHT: where a node stands (SHA-256 of its device key) or a value is kept."""

    __slots__ = ()
    LENGTH = 32


class GroupId(Id):
    """An MLS group id."""

    __slots__ = ()
    LENGTH = 16

    @classmethod
    def random(cls) -> GroupId:
        return cls(os.urandom(cls.LENGTH))


class EpochId(Id):
    """MLS exporter, label `quicnprotochat epoch id`: tells branches of one epoch number apart."""

    __slots__ = ()
    LENGTH = 32


class ParcelId(Id):
    """Makes every hop of one parcel to one recipient device idempotent."""

    __slots__ = ()
    LENGTH = 16


class BlobId(Id):
    """SHA-256 of a blob's sealed bytes: whoever has it can tell the blob from any other."""

    __slots__ = ()
    LENGTH = 32


class MessageId(Id):
    """An application message, unique with its group and author."""

    __slots__ = ()
    LENGTH = 16


class IntentId(Id):
    """A signed wish to change a group."""

    __slots__ = ()
    LENGTH = 16


class CommitHash(Id):
    """SHA-256 of a commit's exact MLS bytes."""

    __slots__ = ()
    LENGTH = 32
