"""The methods on blobs: bring one in chunks, read one in chunks, each from wherever it stopped.

Nobody reads an upload before all of it is on disk and its SHA-256 is the blob's id. A chunk that is
not the next one is no fault: the answer says how many bytes are there, and the caller goes on from
that. An empty chunk asks for it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from relay.admission import Admission
from relay.call import Call
from relay.memory import answering
from relay.refusals import TryLater
from relay.store.blobs import BlobStore, Progress, blob_differs
from relay.store.contract import MAX_NUMBER
from schemas.capnp_codec import counter, sized
from schemas.errors import Refused
from schemas.ids import BlobId, DeviceKey
from schemas.limits import BLOB_CHUNK

VERIFYING_RETRY_MS: Final = 1_000


@dataclass(frozen=True, slots=True)
class BlobTtl:
    """Seconds that a blob is kept: a whole one, and one that is not, after its last chunk."""

    whole_s: int
    unfinished_s: int


DEFAULT_BLOB_TTL: Final = BlobTtl(14 * 86400, 86400)


class BlobMethods:
    """They raise Fault to refuse. `clock` gives Unix seconds."""

    def __init__(
        self, blobs: BlobStore, admission: Admission, ttl: BlobTtl, clock: Callable[[], float]
    ) -> None:
        self._blobs = blobs
        self._admission = admission
        self._ttl = ttl
        self._clock = clock
        self._verifying: set[tuple[DeviceKey, BlobId]] = set()

    async def upload(self, call: Call) -> None:
        with call.request() as params:
            blob = BlobId(params.blob)
            offset, chunk, total = _read_chunk(params)
        call.caller.use(size=len(chunk))
        await self._admission.introduce(call)
        now = int(self._clock())
        if chunk:
            progress = await self._blobs.append(
                *(call.device, blob, offset, chunk, total),
                expires=now + self._ttl.unfinished_s,
                now=now,
            )
        else:
            found = await self._blobs.progress(call.device, blob, now=now)
            progress = Progress(total, 0) if found is None else found
            if progress.total != total:
                raise blob_differs()
        if progress.received == progress.total:
            if not progress.whole:
                await self._verify(call, blob, progress.total, again=not chunk)
            if not await self._blobs.finish(
                call.device, blob, expires=now + self._ttl.whole_s
            ):  # its account was deleted meanwhile, say
                progress = Progress(total, 0)
        call.results.received = progress.received

    async def _verify(self, call: Call, blob: BlobId, total: int, *, again: bool) -> None:
        """Raises Refused `blob-mismatch`, and then nothing of the upload is left."""
        upload = (call.device, blob)
        if upload in self._verifying:
            raise TryLater(
                "busy",
                "the blob is being verified",
                retry_after_ms=VERIFYING_RETRY_MS,
                hint="ask again",
            )
        self._verifying.add(upload)
        try:
            if again:  # the first time is paid for by the bytes that came
                call.caller.use(size=total)
            found = await self._hash(*upload, total)
            if found != blob:
                await self._blobs.drop(*upload, reason="wrong")
                raise Refused(
                    "blob-mismatch",
                    "the bytes are not those that the blob's id says; they are dropped",
                    hint="bring the blob again from its beginning",
                )
        finally:
            self._verifying.discard(upload)

    async def _hash(self, device: DeviceKey, blob: BlobId, total: int) -> bytes:
        """Of what is on disk, a chunk at a time, so that readers of mail come in between."""
        digest = hashlib.sha256()
        for part in range(-(-total // BLOB_CHUNK)):
            chunk = await self._blobs.uploaded(device, blob, part)
            if chunk is None:
                return b""
            digest.update(chunk)
        return digest.digest()

    async def download(self, call: Call) -> None:
        with call.request() as params:
            blob = BlobId(params.blob)
            offset = min(params.offset, MAX_NUMBER)
            limit = min(params.limit or BLOB_CHUNK, BLOB_CHUNK)
        async with answering(call, limit) as answer:
            piece = await self._blobs.read(blob, offset, limit, now=int(self._clock()))
            answer.size = 0 if piece is None else len(piece.data)
        if piece is None:
            raise Refused(
                "not-found",
                "the relay does not hold that blob, or not all of it",
                hint="it may have expired; ask its sender for it",
            )
        call.caller.use(size=len(piece.data))
        call.results.chunk = piece.data
        call.results.total = piece.total


def _read_chunk(params: Any) -> tuple[int, bytes, int]:
    """(offset, chunk, total). Raises ValueError unless the chunk is one that a blob has there."""
    offset, total = counter(params.offset), counter(params.total)
    chunk = sized(params.chunk, BLOB_CHUNK)
    there = min(BLOB_CHUNK, total - offset)
    if not total or (chunk and (offset % BLOB_CHUNK or len(chunk) != there)):
        raise ValueError("not a chunk of a blob")
    return offset, chunk, total
