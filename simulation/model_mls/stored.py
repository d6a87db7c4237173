"""The model's blobs: what a client stores, bound to its key, and to what and where it is.

    version 2 (1) | MessagePack array | tag (16)

They hide nothing, and equal contents are equal blobs. A flipped byte, another key, kind, group or
id is found.
"""

from __future__ import annotations

from enum import IntEnum
from hashlib import blake2b
from typing import Final, TypeVar

import mls_rs
import msgspec

from simulation.model_mls.epochs import Epoch
from simulation.model_mls.values import fault
from simulation.model_mls.wire import Extensions

T = TypeVar("T")

_VERSION: Final = 2
_TAG: Final = 16
_ENCODE: Final = msgspec.msgpack.Encoder().encode


class What(IntEnum):
    STATE = 1
    TREE = 2
    EPOCH = 3
    KEY_PACKAGE = 4
    PENDING_COMMIT = 5


class State(msgspec.Struct, frozen=True, array_like=True):
    suite: int
    extensions: Extensions
    epoch: Epoch
    next_generation: int
    dropped_keys: int
    active: bool
    tree_hash: bytes


def epoch_row(number: int) -> bytes:
    return number.to_bytes(8, "big")


class Sealer:
    def __init__(self, key: bytes) -> None:
        self._key = key

    def seal(self, what: What, group_id: bytes, row: bytes, content: object) -> bytes:
        blob = bytes([_VERSION]) + _ENCODE(content)
        return blob + self._tag(what, group_id, row, blob)

    def open(self, what: What, group_id: bytes, row: bytes, blob: bytes, kind: type[T]) -> T:
        """Raises BlobError: `newer-version`, `tampered` or `layout`."""
        if blob and blob[0] == _VERSION + 1:
            raise fault(mls_rs.BlobError, "newer-version")
        inside = blob[:-_TAG]
        if len(blob) < 1 + _TAG or blob[-_TAG:] != self._tag(what, group_id, row, inside):
            raise fault(mls_rs.BlobError, "tampered")
        try:
            return msgspec.msgpack.decode(inside[1:], type=kind)
        except msgspec.MsgspecError as error:
            raise fault(mls_rs.BlobError, "layout", str(error)) from error

    def _tag(self, what: What, group_id: bytes, row: bytes, blob: bytes) -> bytes:
        bound = _ENCODE((what.value, group_id, row))
        return blake2b(bound + blob, key=self._key, digest_size=_TAG).digest()
