"""What a store promises about blobs, whichever database is behind it."""

from __future__ import annotations

import asyncio
import hashlib
import os

import pytest

from relay.refusals import TryLater
from relay.store.blobs import SWEEP_CHUNKS, Piece, Progress
from relay.store.contract import KNOWN_AFTER_S, MailboxName, Quotas, RelayStore, Usage
from relay.store.postgres.store import PostgresStore
from relay.store.sqlite.store import SqliteStore
from schemas.errors import Refused
from schemas.ids import BlobId, DeviceKey
from schemas.limits import BLOB_CHUNK
from tests.relay.store.stores import Opener
from tests.relay.support import DAY, NOW


@pytest.fixture
def ann() -> DeviceKey:
    return DeviceKey(os.urandom(32))


@pytest.fixture
def bob() -> DeviceKey:
    return DeviceKey(os.urandom(32))


def blob_of(size: int) -> tuple[BlobId, bytes]:
    data = os.urandom(size)
    return BlobId(hashlib.sha256(data).digest()), data


async def append(
    store: RelayStore,
    device: DeviceKey,
    blob: BlobId,
    data: bytes,
    offset: int = 0,
    *,
    total: int | None = None,
    now: int = NOW,
) -> Progress:
    """The one chunk of `data` at `offset`."""
    chunk = data[offset : offset + BLOB_CHUNK]
    total = len(data) if total is None else total
    return await store.blobs.append(device, blob, offset, chunk, total, expires=now + DAY, now=now)


async def bring(
    store: RelayStore, device: DeviceKey, size: int, *, now: int = NOW, ttl_s: int = DAY
) -> tuple[BlobId, bytes]:
    """A whole blob that others may read."""
    blob, data = blob_of(size)
    for offset in range(0, size, BLOB_CHUNK):
        await append(store, device, blob, data, offset, now=now)
    assert await store.blobs.finish(device, blob, expires=now + ttl_s)
    return blob, data


async def held(store: RelayStore) -> Usage:
    await store.probe(now=NOW)  # PostgreSQL counts then
    return store.usage


async def read(store: RelayStore, blob: BlobId, *, now: int = NOW) -> bytes | None:
    """All of it, as a reader gets it."""
    found = b""
    while (piece := await store.blobs.read(blob, len(found), BLOB_CHUNK, now=now)) is not None:
        found += piece.data
        if len(found) == piece.total:
            return found
        assert piece.data
    return None


@pytest.mark.parametrize("size", [1, BLOB_CHUNK, BLOB_CHUNK + 1, 3 * BLOB_CHUNK])
async def test_what_was_brought_is_read(store: RelayStore, ann: DeviceKey, size: int) -> None:
    blob, data = await bring(store, ann, size)
    assert await read(store, blob) == data
    assert await store.blobs.read(blob, size, BLOB_CHUNK, now=NOW) == Piece(b"", size)
    assert await store.blobs.read(blob, 2**63 - 1, BLOB_CHUNK, now=NOW) == Piece(b"", size)
    assert await store.blobs.read(blob, 0, 1, now=NOW) == Piece(data[:1], size)
    assert (await held(store)).blobs == 1
    assert (await held(store)).blob_bytes == size
    assert store.blobs.counters == {"whole": 1}


async def test_nobody_reads_what_is_not_finished(store: RelayStore, ann: DeviceKey) -> None:
    blob, data = blob_of(BLOB_CHUNK + 5)
    assert await read(store, blob) is None
    await append(store, ann, blob, data)
    assert not await store.blobs.finish(ann, blob, expires=NOW + DAY), "half of it is there"
    assert await read(store, blob) is None
    await append(store, ann, blob, data, BLOB_CHUNK)
    assert await read(store, blob) is None, "nobody has compared it with its id"
    assert await store.blobs.finish(ann, blob, expires=NOW + DAY)
    assert await read(store, blob) == data


async def test_only_the_next_chunk_is_added_and_the_answer_says_which_that_is(
    store: RelayStore, ann: DeviceKey
) -> None:
    blob, data = blob_of(3 * BLOB_CHUNK)
    assert await append(store, ann, blob, data, BLOB_CHUNK) == Progress(len(data), 0)
    assert await store.blobs.progress(ann, blob, now=NOW) is None
    for _ in range(2):  # the answer was lost: the same chunk again
        assert await append(store, ann, blob, data) == Progress(len(data), BLOB_CHUNK)
    assert await append(store, ann, blob, data, 2 * BLOB_CHUNK) == Progress(len(data), BLOB_CHUNK)
    outcomes = await asyncio.gather(*(append(store, ann, blob, data, BLOB_CHUNK) for _ in "ab"))
    assert outcomes == [Progress(len(data), 2 * BLOB_CHUNK)] * 2, "two connections of one device"
    await append(store, ann, blob, data, 2 * BLOB_CHUNK)
    assert [await store.blobs.uploaded(ann, blob, part) for part in range(4)] == [
        *(data[at : at + BLOB_CHUNK] for at in range(0, len(data), BLOB_CHUNK)),
        None,
    ]
    assert (await held(store)).blob_bytes == len(data)


async def test_an_upload_goes_on_after_a_restart(reopen: Opener, ann: DeviceKey) -> None:
    blob, data = blob_of(2 * BLOB_CHUNK + 1)
    store = await reopen()
    await append(store, ann, blob, data)
    store = await reopen()
    assert await store.blobs.progress(ann, blob, now=NOW) == Progress(len(data), BLOB_CHUNK)
    assert (await held(store)).blob_bytes == BLOB_CHUNK, "counted anew"
    await append(store, ann, blob, data, BLOB_CHUNK)
    await append(store, ann, blob, data, 2 * BLOB_CHUNK)
    await store.blobs.finish(ann, blob, expires=NOW + DAY)
    store = await reopen()
    assert await store.blobs.progress(ann, blob, now=NOW) == Progress(len(data), len(data), True)
    assert await read(store, blob) == data


async def test_nobody_spoils_the_upload_of_another(
    store: RelayStore, ann: DeviceKey, bob: DeviceKey
) -> None:
    blob, data = blob_of(2 * BLOB_CHUNK)
    await append(store, bob, blob, os.urandom(BLOB_CHUNK), total=len(data))
    await append(store, ann, blob, data)
    await append(store, bob, blob, os.urandom(len(data)), BLOB_CHUNK)
    await append(store, ann, blob, data, BLOB_CHUNK)
    await store.blobs.finish(ann, blob, expires=NOW + DAY)
    await store.blobs.drop(bob, blob, reason="wrong")
    assert await read(store, blob) == data
    assert store.blobs.counters == {"whole": 1, "wrong": 1}


async def test_one_of_two_copies_goes_and_the_other_serves(
    store: RelayStore, ann: DeviceKey, bob: DeviceKey
) -> None:
    blob, data = await bring(store, ann, 100)
    await append(store, bob, blob, data)
    await store.blobs.finish(bob, blob, expires=NOW + 2 * DAY)
    await store.blobs.drop(ann, blob, reason="wrong")
    assert await read(store, blob) == data
    assert await store.blobs.drop_all(bob) == 1
    assert await read(store, blob) is None
    assert await store.blobs.progress(bob, blob, now=NOW) is None


async def test_another_total_is_refused(store: RelayStore, ann: DeviceKey) -> None:
    blob, data = blob_of(2 * BLOB_CHUNK)
    await append(store, ann, blob, data)
    with pytest.raises(Refused, match="total") as raised:
        await append(store, ann, blob, data, BLOB_CHUNK, total=2 * BLOB_CHUNK + 1)
    assert raised.value.code == "blob-differs"
    assert await store.blobs.progress(ann, blob, now=NOW) == Progress(len(data), BLOB_CHUNK)


async def test_quotas(reopen: Opener, ann: DeviceKey, bob: DeviceKey) -> None:
    store = await reopen(
        Quotas(
            blob_bytes=1000,
            device_blobs=3,
            device_blob_bytes=2000,
            total_blob_bytes=4000,
            strangers_share=1.0,
        )
    )

    async def refusal(device: DeviceKey, size: int) -> str:
        with pytest.raises(Refused) as raised:
            await bring(store, device, size)
        return raised.value.code

    assert await refusal(ann, 1001) == "blob-too-large"
    await bring(store, ann, 1000)
    blob, data = await bring(store, ann, 600)
    assert await refusal(ann, 401) == "blobs-full"
    await bring(store, ann, 1)
    assert await refusal(ann, 1) == "blobs-full", "three of them"
    assert await append(store, ann, blob, data) == Progress(600, 600, True), "it has this one"
    await bring(store, bob, 1000)
    others = [DeviceKey(os.urandom(32)) for _ in range(2)]
    await bring(store, others[0], 1000)
    assert await refusal(others[1], 400) == "relay-full"
    await bring(store, others[1], 399)
    assert (await held(store)).blob_bytes == 4000
    await store.blobs.drop(ann, blob, reason="wrong")
    while await store.sweep(now=NOW):
        pass
    await bring(store, ann, 600)
    assert (await held(store)).blob_bytes == 4000


async def test_strangers_share_a_part_of_the_room(
    reopen: Opener, ann: DeviceKey, bob: DeviceKey
) -> None:
    store = await reopen(Quotas(total_blob_bytes=1000, strangers_share=0.5))
    await store.open_mailbox(MailboxName(ann), now=NOW)
    while await store.sweep(now=NOW + KNOWN_AFTER_S):
        pass
    await bring(store, bob, 500)
    with pytest.raises(TryLater) as raised:
        await bring(store, DeviceKey(os.urandom(32)), 1)
    assert raised.value.code == "relay-full"
    await bring(store, ann, 500)
    assert (await held(store)).strangers_blob_bytes == 500


async def test_what_expires_is_gone_at_once_and_its_bytes_soon(
    reopen: Opener, ann: DeviceKey
) -> None:
    store = await reopen()
    size = (SWEEP_CHUNKS + 2) * BLOB_CHUNK
    blob, data = await bring(store, ann, size)
    unfinished, half = blob_of(2 * BLOB_CHUNK)
    await append(store, ann, unfinished, half)
    kept, _ = await bring(store, ann, 10, ttl_s=2 * DAY)
    late = NOW + DAY
    assert await read(store, blob, now=late - 1) == data
    assert await read(store, blob, now=late) is None
    assert await store.blobs.progress(ann, blob, now=late) is None
    assert await store.blobs.progress(ann, unfinished, now=late) is None
    assert await append(store, ann, unfinished, half, now=late) == Progress(len(half), BLOB_CHUNK)
    assert await store.sweep(now=late)
    assert (await held(store)).blob_bytes > BLOB_CHUNK, (
        "not all in one transaction: mail waits meanwhile"
    )
    store = await reopen()  # killed between two steps
    assert await read(store, blob, now=NOW) is None, "nor when the clock goes back"
    assert await append(store, ann, blob, data, now=NOW) == Progress(size, BLOB_CHUNK), "anew"
    while await store.sweep(now=late):
        pass
    await store.blobs.drop(ann, blob, reason="wrong")
    while await store.sweep(now=late):
        pass
    assert (await held(store)).blobs == 2
    assert (await held(store)).blob_bytes == BLOB_CHUNK + 10
    assert await store.blobs.progress(ann, kept, now=late) == Progress(10, 10, True)
    assert await append(store, ann, unfinished, half, BLOB_CHUNK, now=late) == Progress(
        len(half), len(half)
    )


async def damage(store: RelayStore) -> None:
    """The disk changes the second chunk of everything."""
    change = "UPDATE blob_chunks SET checksum = checksum + 1 WHERE part = 1"
    if isinstance(store, SqliteStore):
        await store.database.write(lambda connection: connection.execute(change))
    else:
        assert isinstance(store, PostgresStore)
        await store.database.write(lambda connection: connection.execute(change))


async def test_a_damaged_chunk_is_never_served_and_another_copy_is(
    store: RelayStore, ann: DeviceKey, bob: DeviceKey
) -> None:
    blob, data = await bring(store, ann, 2 * BLOB_CHUNK)
    await damage(store)
    assert await store.blobs.uploaded(ann, blob, 1) is None
    for offset in (0, BLOB_CHUNK):
        await append(store, bob, blob, data, offset)
    await store.blobs.finish(bob, blob, expires=NOW + DAY - 1)
    piece = await store.blobs.read(blob, BLOB_CHUNK, BLOB_CHUNK, now=NOW)
    assert piece == Piece(data[BLOB_CHUNK:], len(data)), "the other one's is whole"
    assert +store.blobs.counters == {"whole": 2, "damaged": 1}
    await damage(store)
    assert await store.blobs.read(blob, BLOB_CHUNK, BLOB_CHUNK, now=NOW) is None
    assert await store.blobs.progress(bob, blob, now=NOW) is None, "it may be brought again"
