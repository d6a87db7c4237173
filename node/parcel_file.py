"""Files that carry sealed parcels by hand, `QPCP`: written and read piece by piece.

Layout, integers little-endian (docs/file-formats.md): magic "QPCP" | version 1 (1) | records | end.
A record is kind (1) | length (4) | content. The end is a record of kind 0: how many there were (4),
and SHA-256 of every byte before it (32). Nothing follows it.
"""

from __future__ import annotations

import hashlib
import os
import stat
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import IntEnum
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final, Self

from schemas import limits
from schemas.errors import Blame, Fault, Malformed, Refused
from schemas.introduction import INTRODUCTION, Introduction
from schemas.parcels import PARCEL_OVERHEAD, Parcel
from storage.files import PrivateFile

MAGIC: Final = b"QPCP"
VERSION: Final = 1
FILE_RECORDS: Final = 100_000
FILE_BYTES: Final = (1 << 32) - 1  # what FAT32, the file system of most sticks, can hold

_RECORD: Final = struct.Struct("<BI")
_END: Final = struct.Struct("<I32s")
_RESERVED: Final = _RECORD.size + _END.size
_AGAIN: Final = "have it exported and copied once more"


class Kind(IntEnum):
    """What a record is."""

    END = 0
    PARCEL = 1
    INTRODUCTION = 2


_LONGEST: Final = {
    Kind.END: _END.size,
    Kind.PARCEL: limits.PARCEL + PARCEL_OVERHEAD,
    Kind.INTRODUCTION: INTRODUCTION,
}

Record = tuple[Kind, bytes]


class ParcelFileWriter:
    """Puts records into a new file, which is there, whole, when the block ends well."""

    def __init__(self, path: Path) -> None:
        self._file = PrivateFile(path)
        self._digest = hashlib.sha256()
        self.records = 0
        self.bytes = 0

    def __enter__(self) -> Self:
        self._file.__enter__()
        self._put(MAGIC + bytes([VERSION]))
        return self

    def _put(self, data: bytes) -> None:
        self._digest.update(data)
        self.bytes += len(data)
        self._file.write(data)

    def parcel(self, parcel: Parcel) -> None:
        """Raises Refused `too-many-parcels`; Fault `cannot-write-file`."""
        self._record(Kind.PARCEL, parcel.encode())

    def introduction(self, introduction: Introduction) -> None:
        """Raises as `parcel` does."""
        self._record(Kind.INTRODUCTION, introduction.encode())

    def _record(self, kind: Kind, content: bytes) -> None:
        size = self.bytes + _RECORD.size + len(content) + _RESERVED
        if self.records >= FILE_RECORDS or size > FILE_BYTES:
            raise Refused(
                "too-many-parcels",
                f"more waits than one file holds ({FILE_RECORDS} parcels, {FILE_BYTES} bytes)",
                hint="export for one person or group at a time: --for KEY-OR-GROUP",
            )
        self.records += 1
        self._put(_RECORD.pack(kind, len(content)) + content)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None:
            end = _RECORD.pack(Kind.END, _END.size)
            self._put(end + self.records.to_bytes(4, "little"))
            self._put(self._digest.digest())
        self._file.__exit__(kind, error, traceback)


@contextmanager
def open_parcel_file(path: Path) -> Iterator[BinaryIO]:
    """To be read. Raises Fault `cannot-read-file`; Refused `not-a-parcel-file`."""
    try:
        # Not blocking: a pipe with nobody at its other end would be waited for without end.
        opened = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise Fault(
            "cannot-read-file",
            f"the file {str(path)!r} cannot be read: {error.strerror}",
            blame=Blame.CALLER,
            hint="check the path and its permissions",
        ) from error
    status = os.fstat(opened)
    if not stat.S_ISREG(status.st_mode) or status.st_size > FILE_BYTES:
        os.close(opened)
        raise Refused("not-a-parcel-file", f"{str(path)!r} is not a file of parcels")
    with os.fdopen(opened, "rb") as file:
        yield file


def read_records_untrusted(read: Callable[[int], bytes]) -> Iterator[Record]:
    """The records as they come, each at most as long as its kind can be; not looked into.

    `read` is a binary file's: at most so many bytes, none at the end. What came before a fault is
    good to be taken: each parcel is sealed for itself. Raises Malformed: `not-a-parcel-file`,
    `parcel-file-newer`, `parcel-file-damaged`; OSError as `read`.
    """
    digest = hashlib.sha256()

    def take(length: int) -> bytes:
        data = read(length)
        digest.update(data)
        if len(data) < length:
            raise Malformed("parcel-file-damaged", "the file ends too early", hint=_AGAIN)
        return data

    head = read(len(MAGIC) + 1)
    digest.update(head)
    if head[: len(MAGIC)] != MAGIC or len(head) <= len(MAGIC):
        raise Malformed("not-a-parcel-file", "this is not a file of parcels")
    if head[-1] != VERSION:
        raise Malformed(
            "parcel-file-newer",
            f"a file of parcels of version {head[-1]}; this program knows {VERSION}",
            hint="upgrade this program",
        )
    records = 0
    while True:
        number, length = _RECORD.unpack(take(_RECORD.size))
        if number not in _LONGEST or length > _LONGEST[Kind(number)] or records > FILE_RECORDS:
            raise Malformed("parcel-file-damaged", "the file is damaged in the middle", hint=_AGAIN)
        kind = Kind(number)
        if kind is Kind.END:
            break
        content = take(length)
        records += 1
        yield kind, content
    count, computed = take(4), digest.digest()
    if (
        length != _END.size
        or int.from_bytes(count, "little") != records
        or take(len(computed)) != computed
        or read(1)
    ):
        raise Malformed(
            "parcel-file-damaged", "the file is not what was written (its checksum)", hint=_AGAIN
        )
