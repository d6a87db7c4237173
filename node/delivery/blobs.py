"""Blobs to a relay and back: resumed where they stopped, verified, 256 KiB in memory at a time.

What goes up is sealed already (identity/sealed_blob.py): a relay learns its size and, of an upload,
the device. The id, the size and the key travel inside messages.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import BinaryIO, Final, TypeVar

from node.delivery.relay_client import RelayClient, RelayRefused
from schemas.errors import Blame, Fault, Malformed, Unreachable
from schemas.ids import BlobId
from schemas.limits import BLOB_CHUNK
from transport import ConnectionLost

Connect = Callable[[], Awaitable[RelayClient]]  # a connected relay, a new one after a loss
OnProgress = Callable[[int, int], None]  # bytes there, bytes in all

RETRY_S: Final = 0.5
PATIENCE_S: Final = 120.0  # without one byte of progress

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class BlobName:
    """Which blob: SHA-256 and number of its sealed bytes."""

    id: BlobId
    size: int


async def name_blob(source: BinaryIO) -> BlobName:
    """Of all the bytes of `source`, which is read from its beginning."""
    return await asyncio.to_thread(_name, source)


async def upload_blob(
    connect: Connect,
    source: BinaryIO,
    blob: BlobName,
    *,
    on_progress: OnProgress = lambda *_: None,
    patience_s: float = PATIENCE_S,
) -> None:
    """Bring `blob`, the bytes of `source` (seekable); on return the relay has all of it on disk.

    Goes on where an earlier upload stopped, of this or another process of the same device; and
    after a lost connection, until there was no progress for `patience_s`. Raises the relay's
    refusal, Malformed, Unreachable.
    """
    asking = _Asking(connect, patience_s)
    received = await asking.ask(lambda relay: relay.upload_blob(blob.id, 0, b"", blob.size))
    while received < blob.size:
        on_progress(received, blob.size)
        offset = received - received % BLOB_CHUNK
        chunk = await asyncio.to_thread(_read, source, offset)
        if len(chunk) != min(BLOB_CHUNK, blob.size - offset):
            raise Fault("blob-changed", "the file has changed meanwhile", blame=Blame.CALLER)
        received = await asking.ask(
            lambda relay, at=offset, data=chunk: relay.upload_blob(  # type: ignore[misc]
                blob.id, at, data, blob.size
            )
        )
        await asking.reached(received)
    on_progress(blob.size, blob.size)


async def download_blob(
    connect: Connect,
    blob: BlobName,
    target: BinaryIO,
    *,
    on_progress: OnProgress = lambda *_: None,
    patience_s: float = PATIENCE_S,
) -> None:
    """Fetch `blob` into `target` (readable, seekable), which on return holds it and nothing else.

    What `target` holds is taken for the beginning of an earlier download. It is to be believed only
    on return: then its SHA-256 is the id. Raises RelayRefused `not-found`; Malformed
    `blob-mismatch`, and `target` is empty; Unreachable.
    """
    asking = _Asking(connect, patience_s)
    digest = hashlib.sha256()
    offset = await asyncio.to_thread(_resume, target, blob.size, digest.update)
    while offset < blob.size:
        on_progress(offset, blob.size)
        chunk, total = await asking.ask(
            lambda relay, at=offset: relay.download_blob(blob.id, at)  # type: ignore[misc]
        )
        if total != blob.size or not chunk or offset + len(chunk) > total:
            raise Malformed("malformed-relay-answer", "the relay shows another blob")
        await asking.reached(offset + len(chunk))
        await asyncio.to_thread(target.write, chunk)
        digest.update(chunk)
        offset += len(chunk)
    if digest.digest() != blob.id:
        await asyncio.to_thread(_empty, target)
        raise Malformed("blob-mismatch", "the relay's bytes are not those of the blob")
    await asyncio.to_thread(target.flush)
    on_progress(blob.size, blob.size)


class _Asking:
    """Calls of a relay, made again while it is away or busy, but not for ever without progress."""

    def __init__(self, connect: Connect, patience_s: float) -> None:
        self._connect = connect
        self._patience_s = patience_s
        self._loop = asyncio.get_running_loop()
        self._until = self._loop.time() + patience_s
        self._best = 0

    async def ask(self, call: Callable[[RelayClient], Awaitable[T]]) -> T:
        while True:
            try:
                return await call(await self._connect())
            except (ConnectionLost, Unreachable) as lost:
                await self._wait(RETRY_S, lost)
            except RelayRefused as refused:
                if not refused.retry_after_s:
                    raise
                await self._wait(refused.retry_after_s, refused)

    async def reached(self, offset: int) -> None:
        """So far are we. One that goes back and forth, or stays, is not asked without a pause."""
        if offset > self._best:
            self._best = offset
            self._until = self._loop.time() + self._patience_s
        else:
            await self._wait(RETRY_S, Unreachable("blob-stuck", "the relay takes no more of it"))

    async def _wait(self, seconds: float, fault: Fault) -> None:
        if self._loop.time() + seconds > self._until:
            raise fault
        await asyncio.sleep(seconds)


def _name(source: BinaryIO) -> BlobName:
    source.seek(0)
    digest = hashlib.sha256()
    size = 0
    while chunk := source.read(BLOB_CHUNK):
        digest.update(chunk)
        size += len(chunk)
    return BlobName(BlobId(digest.digest()), size)


def _read(source: BinaryIO, offset: int) -> bytes:
    source.seek(offset)
    return source.read(BLOB_CHUNK)


def _resume(target: BinaryIO, size: int, update: Callable[[bytes], None]) -> int:
    """Where to go on: what is there is hashed, and what is more than the blob is cut off."""
    if target.seek(0, os.SEEK_END) > size:
        _empty(target)
    target.seek(0)
    while chunk := target.read(BLOB_CHUNK):
        update(chunk)
    return target.tell()


def _empty(target: BinaryIO) -> None:
    target.seek(0)
    target.truncate()
