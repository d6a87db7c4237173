"""Blobs in the database: see relay/store/blobs.py."""

from __future__ import annotations

import logging
import zlib
from collections import Counter
from typing import Any

import apsw

from relay.refusals import relay_full
from relay.store.blobs import SWEEP_CHUNKS, Look, Piece, Progress, Upload
from relay.store.contract import SWEEP_ROWS
from relay.store.rules import check_upload
from relay.store.sqlite.database import Database
from relay.store.sqlite.usage import Room, total
from schemas.ids import BlobId, DeviceKey
from schemas.limits import BLOB_CHUNK

log = logging.getLogger(__name__)


class SqliteBlobs:
    """A BlobStore."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._room = database.room
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
        return await self._database.write(
            _append, self._room, device, blob, offset, chunk, total, expires, now, cost=len(chunk)
        )

    async def uploaded(self, device: DeviceKey, blob: BlobId, part: int) -> bytes | None:
        return await self._database.read(_uploaded, device, blob, part)

    async def finish(self, device: DeviceKey, blob: BlobId, *, expires: int) -> bool:
        done, was_new = await self._database.write(_finish, device, blob, expires)
        self.counters["whole"] += was_new
        return done

    async def drop(self, device: DeviceKey, blob: BlobId, *, reason: str) -> None:
        self.counters[reason] += await self._database.write(_drop_upload, device, blob)

    async def drop_all(self, device: DeviceKey) -> int:
        return await self._database.write(drop_all, device)

    async def read(self, blob: BlobId, offset: int, limit: int, *, now: int) -> Piece | None:
        while True:
            look = await self._database.read(_read, blob, offset, limit, now)
            if look.damaged is None:
                return look.piece
            log.error("a chunk of a blob is damaged on disk; that upload is dropped")
            self.counters["damaged"] += await self._database.write(_drop, look.damaged)


def _find(connection: apsw.Connection, device: DeviceKey, blob: BlobId, now: int) -> Upload | None:
    row = connection.execute(
        "SELECT number, total, received, whole, stranger FROM blobs"
        " WHERE device = ? AND id = ? AND expires > ?",
        (bytes(device), bytes(blob), now),
    ).fetchone()
    if row is None:
        return None
    number, total, received, whole, stranger = row
    return Upload(number, total, received, bool(whole), bool(stranger))


def _append(
    connection: apsw.Connection,
    room: Room,
    device: DeviceKey,
    blob: BlobId,
    offset: int,
    chunk: bytes,
    total: int,
    expires: int,
    now: int,
) -> Progress:
    upload = _find(connection, device, blob, now)
    if upload is None:
        if offset:
            return Progress(total, 0)
        upload = _begin(connection, room, device, blob, total, expires, now)
    if not upload.takes(offset, total):
        return upload.progress
    room.add_blob_chunk(len(chunk), stranger=upload.stranger)
    row = (upload.number, offset // BLOB_CHUNK, zlib.crc32(chunk), chunk)
    connection.execute(
        "INSERT INTO blob_chunks (blob, part, checksum, data) VALUES (?, ?, ?, ?)", row
    )
    received = offset + len(chunk)
    connection.execute(
        "UPDATE blobs SET received = ?, expires = ? WHERE number = ?",
        (received, expires, upload.number),
    )
    return Progress(total, received)


def _begin(
    connection: apsw.Connection,
    room: Room,
    device: DeviceKey,
    blob: BlobId,
    total: int,
    expires: int,
    now: int,
) -> Upload:
    uploads, reserved = connection.execute(
        "SELECT count(*), ifnull(sum(total), 0) FROM blobs WHERE device = ? AND expires > ?",
        (bytes(device), now),
    ).get
    check_upload(total, uploads, reserved, room.quotas)
    known = connection.execute(
        "SELECT known FROM mailboxes WHERE recipient = ? AND channel = x''", (bytes(device),)
    ).get
    stranger = not known
    if not room.holds_blob(total, stranger=stranger):
        raise relay_full()
    _drop_upload(connection, device, blob)  # one that has expired, and is not swept away yet
    number = connection.execute(
        "INSERT INTO blobs (id, device, total, stranger, expires) VALUES (?, ?, ?, ?, ?)"
        " RETURNING number",
        (bytes(blob), bytes(device), total, stranger, expires),
    ).get
    room.usage.blobs += 1
    return Upload(int(str(number)), total, 0, whole=False, stranger=stranger)


def _uploaded(
    connection: apsw.Connection, device: DeviceKey, blob: BlobId, part: int
) -> bytes | None:
    row = connection.execute(
        "SELECT data, checksum FROM blob_chunks JOIN blobs ON blob = number"
        " WHERE device = ? AND id = ? AND part = ?",
        (bytes(device), bytes(blob), part),
    ).fetchone()
    return row[0] if row is not None and zlib.crc32(row[0]) == row[1] else None


def _finish(
    connection: apsw.Connection, device: DeviceKey, blob: BlobId, expires: int
) -> tuple[bool, bool]:
    """(whether all of it is there, whether others could not read it until now)."""
    row = connection.execute(
        "SELECT number, whole FROM blobs WHERE device = ? AND id = ? AND received = total",
        (bytes(device), bytes(blob)),
    ).fetchone()
    if row is None:
        return False, False
    connection.execute(
        "UPDATE blobs SET whole = 1, expires = ? WHERE number = ?", (expires, row[0])
    )
    return True, not row[1]


_FORGET = "UPDATE blobs SET id = randomblob(32), whole = 0, expires = 0"


def _drop_upload(connection: apsw.Connection, device: DeviceKey, blob: BlobId) -> int:
    connection.execute(f"{_FORGET} WHERE device = ? AND id = ?", (bytes(device), bytes(blob)))
    return connection.changes()


def _drop(connection: apsw.Connection, number: int) -> int:
    connection.execute(f"{_FORGET} WHERE number = ? AND whole", (number,))
    return connection.changes()


def drop_all(connection: apsw.Connection, device: DeviceKey) -> int:
    connection.execute(f"{_FORGET} WHERE device = ? AND expires > 0", (bytes(device),))
    return connection.changes()


def _read(connection: apsw.Connection, blob: BlobId, offset: int, limit: int, now: int) -> Look:
    row = connection.execute(
        "SELECT number, total FROM blobs WHERE id = ? AND whole AND expires > ?"
        " ORDER BY expires DESC LIMIT 1",
        (bytes(blob), now),
    ).fetchone()
    if row is None:
        return Look(None)
    number, total = row
    if offset >= total:
        return Look(Piece(b"", total))
    part, skipped = divmod(offset, BLOB_CHUNK)
    found = connection.execute(
        "SELECT data, checksum FROM blob_chunks WHERE blob = ? AND part = ?", (number, part)
    ).fetchone()
    if found is None or zlib.crc32(found[0]) != found[1]:
        return Look(None, damaged=number)
    return Look(Piece(found[0][skipped : skipped + limit], total))


def sweep(connection: apsw.Connection, room: Room, now: int) -> tuple[int, int]:
    """(whole blobs that expired, rows that went): up to SWEEP_CHUNKS chunks, so little at once."""
    expired = connection.execute(
        "SELECT whole, number FROM blobs WHERE expires > 0 AND expires <= ? LIMIT ?",
        (now, SWEEP_ROWS),
    ).fetchall()
    for _, number in expired:  # for good, whatever the clock does next
        connection.execute(f"{_FORGET} WHERE number = ?", (number,))
    chunks: list[Any] = connection.execute(
        "SELECT number, stranger, length(data), blob_chunks.rowid FROM blobs"
        " JOIN blob_chunks ON blob = number WHERE expires = 0 LIMIT ?",
        (SWEEP_CHUNKS,),
    ).fetchall()
    for number, stranger, size, row in chunks:
        connection.execute("DELETE FROM blob_chunks WHERE rowid = ?", (row,))
        connection.execute(
            "UPDATE blobs SET received = received - ? WHERE number = ?", (size, number)
        )
        room.remove_blob_chunk(size, stranger=bool(stranger))
    connection.execute(
        "DELETE FROM blobs WHERE number IN"
        " (SELECT number FROM blobs WHERE expires = 0"
        "  AND NOT EXISTS (SELECT 1 FROM blob_chunks WHERE blob = number) LIMIT ?)",
        (SWEEP_ROWS,),
    )
    emptied = connection.changes()
    room.usage.blobs -= emptied
    return total(expired), len(chunks) + emptied
