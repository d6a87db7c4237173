"""What a store promises about blobs: sealed bytes of any size, brought and read in chunks.

A blob's id is the SHA-256 of its bytes. An upload belongs to the device that brings it, grows from
its beginning only, and is nobody else's to read until `finish` says that its bytes are what the id
says. Two devices that bring the same blob have an upload each, so neither can spoil the other's.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

from schemas.errors import Refused
from schemas.ids import BlobId, DeviceKey

SWEEP_CHUNKS: Final = 16  # 4 MiB: deleted bytes are overwritten, and mail waits for the writer


@dataclass(frozen=True, slots=True)
class Progress:
    """An upload: its first `received` of `total` bytes are on disk. `whole`: others may read it."""

    total: int
    received: int
    whole: bool = False


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes of a blob that is `total` bytes long."""

    data: bytes
    total: int


class BlobStore(Protocol):
    """The part `store.blobs`; tests/relay/store/test_blobs.py holds every store to it.

    `counters` counts blobs: `whole`, `wrong`, `expired` and `damaged`. What is expired or dropped
    is gone for every method at once, and its bytes a while after, by the store's `sweep`.
    """

    @property
    def counters(self) -> Counter[str]: ...

    async def progress(self, device: DeviceKey, blob: BlobId, *, now: int) -> Progress | None:
        """How far the device's upload is; None: there is none."""
        ...

    async def append(
        self,
        device: DeviceKey,
        blob: BlobId,
        offset: int,
        chunk: bytes,
        total: int,
        *,
        expires: int,
        now: int,
    ) -> Progress:
        """Add a chunk to the device's upload, which the first one begins; on disk on return.

        Each is of BLOB_CHUNK bytes, the last of what remains. A chunk that is not the next one
        changes nothing: the answer says which is. The upload is kept until `expires`, from the
        last chunk on. Raises Refused `blob-differs` for another `total` than it began with,
        `blob-too-large`; TryLater `blobs-full` (the device's), `relay-full`, `busy`.
        """
        ...

    async def uploaded(self, device: DeviceKey, blob: BlobId, part: int) -> bytes | None:
        """The chunk number `part` of the device's upload; None when it is not there or damaged."""
        ...

    async def finish(self, device: DeviceKey, blob: BlobId, *, expires: int) -> bool:
        """Let others read it, until `expires`; whether all of it is there. Repeating it renews."""
        ...

    async def drop(self, device: DeviceKey, blob: BlobId, *, reason: str) -> None:
        """Forget the device's upload, whole or not; counted by `reason`."""
        ...

    async def drop_all(self, device: DeviceKey) -> int:
        """Forget all that the device has uploaded; how many there were."""
        ...

    async def read(self, blob: BlobId, offset: int, limit: int, *, now: int) -> Piece | None:
        """Up to `limit` bytes from `offset`, within one chunk; none at the end or beyond it.

        None: nobody has brought all of it. A chunk whose checksum is wrong is never served: its
        upload is dropped, and another device's takes its place if there is one.
        """
        ...


class Upload(NamedTuple):
    """A row of `blobs`; `stranger`: no mailbox of its device is known."""

    number: int
    total: int
    received: int
    whole: bool
    stranger: bool

    @property
    def progress(self) -> Progress:
        return Progress(self.total, self.received, self.whole)

    def takes(self, offset: int, total: int) -> bool:
        """Whether the chunk at `offset` is the next one. Raises Refused `blob-differs`."""
        if total != self.total:
            raise blob_differs()
        return not self.whole and offset == self.received


class Look(NamedTuple):
    """What reading found: a piece, or an upload (its number) that is `damaged`, or nothing."""

    piece: Piece | None
    damaged: int | None = None


def blob_differs() -> Refused:
    return Refused(
        "blob-differs",
        "this upload began with another total",
        hint="the id of a blob is the SHA-256 of its bytes; bring those",
    )
