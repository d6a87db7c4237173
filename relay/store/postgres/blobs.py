"""Blobs in the database: see relay/store/blobs.py.

What changes a device's uploads has the device's lock until it commits.
"""

from __future__ import annotations

import logging
import zlib
from collections import Counter
from collections.abc import Sequence
from typing import Final, NamedTuple

from relay.refusals import relay_full
from relay.store.blobs import SWEEP_CHUNKS, Look, Piece, Progress, Upload
from relay.store.contract import SWEEP_ROWS, Quotas
from relay.store.postgres import usage
from relay.store.postgres.connecting import Connection
from relay.store.postgres.database import Database, lock
from relay.store.rules import check_upload, has_room
from schemas.ids import BlobId, DeviceKey
from schemas.limits import BLOB_CHUNK

log = logging.getLogger(__name__)

_LOCK: Final = b"blobs"
# Gone for every method at once; the sweep deletes the chunks of what expired in the year 1970.
_FORGET: Final = (
    "UPDATE blobs SET id = decode(replace(gen_random_uuid()::text, '-', ''), 'hex'),"
    " whole = false, expires = 0"
)
_EXPIRE: Final = (
    "WITH old AS (SELECT number, whole FROM blobs WHERE expires > 0 AND expires <= $1"  # noqa: S608
    f" LIMIT $2 FOR UPDATE SKIP LOCKED) {_FORGET.replace('blobs', 'blobs b')}"
    " FROM old WHERE b.number = old.number RETURNING old.whole"
)


class PostgresBlobs:
    """A BlobStore."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.counters: Counter[str] = Counter()

    async def progress(self, device: DeviceKey, blob: BlobId, *, now: int) -> Progress | None:
        found = await self._database.read(_find, device, blob, now)
        return None if found is None else found.progress

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
        quotas = self._database.quotas
        return await self._database.write(
            _append, quotas, device, blob, offset, chunk, total, expires, now
        )

    async def uploaded(self, device: DeviceKey, blob: BlobId, part: int) -> bytes | None:
        rows = await self._database.fetch(
            "SELECT c.data, c.checksum FROM blob_chunks c JOIN blobs b ON c.blob = b.number"
            " WHERE b.device = $1 AND b.id = $2 AND c.part = $3",
            bytes(device),
            bytes(blob),
            part,
        )
        if not rows or zlib.crc32(rows[0]["data"]) != rows[0]["checksum"]:
            return None
        return bytes(rows[0]["data"])

    async def finish(self, device: DeviceKey, blob: BlobId, *, expires: int) -> bool:
        done, was_new = await self._database.write(_finish, device, blob, expires)
        self.counters["whole"] += was_new
        return done

    async def drop(self, device: DeviceKey, blob: BlobId, *, reason: str) -> None:
        self.counters[reason] += await self._database.write(_drop_upload, device, blob)

    async def drop_all(self, device: DeviceKey) -> int:
        return await self._database.write(drop_all, [bytes(device)])

    async def read(self, blob: BlobId, offset: int, limit: int, *, now: int) -> Piece | None:
        while True:
            look = await self._database.read(_read, blob, offset, limit, now)
            if look.damaged is None:
                return look.piece
            log.error("a chunk of a blob is damaged on disk; that upload is dropped")
            self.counters["damaged"] += await self._database.write(_drop, look.damaged)


async def _find(connection: Connection, device: DeviceKey, blob: BlobId, now: int) -> Upload | None:
    row = await connection.fetchrow(
        "SELECT number, total, received, whole, stranger FROM blobs"
        " WHERE device = $1 AND id = $2 AND expires > $3",
        bytes(device),
        bytes(blob),
        now,
    )
    return None if row is None else Upload(*row)


async def _append(
    connection: Connection,
    quotas: Quotas,
    device: DeviceKey,
    blob: BlobId,
    offset: int,
    chunk: bytes,
    total: int,
    expires: int,
    now: int,
) -> Progress:
    await lock(connection, _LOCK, bytes(device))
    upload, begun = await _find(connection, device, blob, now), 0
    if upload is None:
        if offset:
            return Progress(total, 0)
        upload, begun = await _begin(connection, quotas, device, blob, total, expires, now), 1
    if not upload.takes(offset, total):
        return upload.progress
    if not await _has_room(connection, quotas, len(chunk), stranger=upload.stranger):
        await usage.add(connection, blobs=begun)
        raise relay_full()
    await connection.execute(
        "INSERT INTO blob_chunks (blob, part, checksum, data) VALUES ($1, $2, $3, $4)",
        upload.number,
        offset // BLOB_CHUNK,
        zlib.crc32(chunk),
        chunk,
    )
    received = offset + len(chunk)
    await connection.execute(
        "UPDATE blobs SET received = $2, expires = $3 WHERE number = $1",
        upload.number,
        received,
        expires,
    )
    await usage.add(
        connection,
        blobs=begun,
        blob_bytes=len(chunk),
        strangers_blob_bytes=len(chunk) * upload.stranger,
    )
    return Progress(total, received)


async def _begin(
    connection: Connection,
    quotas: Quotas,
    device: DeviceKey,
    blob: BlobId,
    total: int,
    expires: int,
    now: int,
) -> Upload:
    """The caller counts it."""
    uploads, reserved = await connection.fetchrow(
        "SELECT count(*), coalesce(sum(total), 0) FROM blobs WHERE device = $1 AND expires > $2",
        bytes(device),
        now,
    )
    check_upload(total, uploads, reserved, quotas)
    known = await connection.fetchval(
        "SELECT known FROM mailboxes WHERE recipient = $1 AND channel = ''", bytes(device)
    )
    held = await usage.count(connection)
    room = await _has_room(connection, quotas, total, stranger=not known)
    if held.blobs >= quotas.total_blobs or not room:
        raise relay_full()
    await _forget_upload(connection, device, blob)  # one that has expired, and is not swept yet
    number = await connection.fetchval(
        "INSERT INTO blobs (id, device, total, stranger, expires) VALUES ($1, $2, $3, $4, $5)"
        " RETURNING number",
        *(bytes(blob), bytes(device), total, not known, expires),
    )
    return Upload(number, total, 0, whole=False, stranger=not known)


async def _has_room(connection: Connection, quotas: Quotas, size: int, *, stranger: bool) -> bool:
    held = await usage.count(connection)
    return has_room(
        size,
        held=held.blob_bytes,
        most=quotas.total_blob_bytes,
        strangers=held.strangers_blob_bytes,
        quotas=quotas,
        stranger=stranger,
    )


async def _finish(
    connection: Connection, device: DeviceKey, blob: BlobId, expires: int
) -> tuple[bool, bool]:
    """(whether all of it is there, whether others could not read it until now)."""
    await lock(connection, _LOCK, bytes(device))
    row = await connection.fetchrow(
        "SELECT number, whole FROM blobs WHERE device = $1 AND id = $2 AND received = total",
        bytes(device),
        bytes(blob),
    )
    if row is None:
        return False, False
    await connection.execute(
        "UPDATE blobs SET whole = true, expires = $2 WHERE number = $1", row["number"], expires
    )
    return True, not row["whole"]


async def _drop_upload(connection: Connection, device: DeviceKey, blob: BlobId) -> int:
    await lock(connection, _LOCK, bytes(device))
    return await _forget_upload(connection, device, blob)


async def _forget_upload(connection: Connection, device: DeviceKey, blob: BlobId) -> int:
    status = await connection.execute(
        f"{_FORGET} WHERE device = $1 AND id = $2", bytes(device), bytes(blob)
    )
    return _changed(status)


async def _drop(connection: Connection, number: int) -> int:
    return _changed(await connection.execute(f"{_FORGET} WHERE number = $1 AND whole", number))


async def drop_all(connection: Connection, devices: Sequence[bytes]) -> int:
    """`devices` in their order."""
    for device in devices:
        await lock(connection, _LOCK, device)
    return _changed(
        await connection.execute(
            f"{_FORGET} WHERE device = ANY ($1::bytea[]) AND expires > 0", devices
        )
    )


def _changed(status: str) -> int:
    """The number in what the server says of a statement, `UPDATE 3`."""
    return int(status.rpartition(" ")[2])


async def _read(connection: Connection, blob: BlobId, offset: int, limit: int, now: int) -> Look:
    row = await connection.fetchrow(
        "SELECT number, total FROM blobs WHERE id = $1 AND whole AND expires > $2"
        " ORDER BY expires DESC LIMIT 1",
        bytes(blob),
        now,
    )
    if row is None:
        return Look(None)
    number, total = row
    if offset >= total:
        return Look(Piece(b"", total))
    part, skipped = divmod(offset, BLOB_CHUNK)
    found = await connection.fetchrow(
        "SELECT data, checksum FROM blob_chunks WHERE blob = $1 AND part = $2", number, part
    )
    if found is None or zlib.crc32(found["data"]) != found["checksum"]:
        return Look(None, damaged=number)
    return Look(Piece(found["data"][skipped : skipped + limit], total))


class Swept(NamedTuple):
    """Whole blobs that expired, and the rows that went."""

    expired: int
    rows: int


async def sweep(connection: Connection, now: int) -> Swept:
    """Up to SWEEP_CHUNKS chunks, so that little is done at once."""
    expired = await connection.fetch(
        _EXPIRE,
        now,
        SWEEP_ROWS,
    )
    chunks = await connection.fetch(
        "WITH gone AS (DELETE FROM blob_chunks c WHERE (c.blob, c.part) IN ("
        "  SELECT d.blob, d.part FROM blobs b JOIN blob_chunks d ON d.blob = b.number"
        "  WHERE b.expires = 0 LIMIT $1) RETURNING c.blob, octet_length(c.data) AS size)"
        " SELECT g.size, b.stranger FROM gone g JOIN blobs b ON b.number = g.blob",
        SWEEP_CHUNKS,
    )
    emptied = await connection.fetch(
        "DELETE FROM blobs WHERE number IN (SELECT number FROM blobs b WHERE b.expires = 0"
        "  AND NOT EXISTS (SELECT FROM blob_chunks WHERE blob = b.number) LIMIT $1)"
        " RETURNING number",
        SWEEP_ROWS,
    )
    await usage.add(
        connection,
        blobs=-len(emptied),
        blob_bytes=-sum(row["size"] for row in chunks),
        strangers_blob_bytes=-sum(row["size"] for row in chunks if row["stranger"]),
    )
    return Swept(sum(row["whole"] for row in expired), len(chunks) + len(emptied))
