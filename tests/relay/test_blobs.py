"""Blobs over real QUIC: resumed, verified, bounded, and unharmed by whoever misbehaves."""

from __future__ import annotations

import asyncio
import hashlib
import os
from pathlib import Path

import pytest

from relay.blob_methods import BlobMethods
from relay.limits import RelayLimits
from relay.server import Relay, open_relay
from relay.store.contract import Quotas
from schemas.limits import BLOB_CHUNK
from storage.sqlite import open_database
from tests.mounting import OWN_MOUNTS, needs_mounting
from tests.relay.process import RelayProcess
from tests.relay.support import Client, Clock, client_of, config_for, new_device, within
from tests.relay.test_real_disk import fill

SMALL_DISK = (*OWN_MOUNTS, "sh", "-c", 'mount -t tmpfs -o size=3m none "$0" && exec "$@"')


def blob_of(size: int) -> tuple[bytes, bytes]:
    data = os.urandom(size)
    return hashlib.sha256(data).digest(), data


async def send(client: Client, blob: bytes, data: bytes, offset: int = 0) -> tuple[str, int]:
    """(error code, bytes received) of one chunk."""
    chunk = data[offset : offset + BLOB_CHUNK]
    answer = await client.call("uploadBlob", blob=blob, offset=offset, chunk=chunk, total=len(data))
    return answer.error.code, answer.received


async def ask(client: Client, blob: bytes, total: int) -> tuple[str, int]:
    answer = await client.call("uploadBlob", blob=blob, offset=0, chunk=b"", total=total)
    return answer.error.code, answer.received


async def bring(client: Client, data: bytes) -> bytes:
    blob = hashlib.sha256(data).digest()
    for offset in range(0, len(data), BLOB_CHUNK):
        chunk = data[offset : offset + BLOB_CHUNK]
        assert await send(client, blob, data, offset) == ("", offset + len(chunk))
    return blob


async def fetch(client: Client, blob: bytes) -> tuple[str, bytes]:
    """(error code, all the bytes)."""
    found = b""
    while True:
        answer = await client.call("downloadBlob", blob=blob, offset=len(found))
        if answer.error.code:
            return answer.error.code, found
        found += answer.chunk
        if len(found) == answer.total:
            return "", found


async def test_it_goes_up_and_down_and_is_whole_before_anybody_sees_it(relay: Relay) -> None:
    blob, data = blob_of(2 * BLOB_CHUNK + 7)
    async with client_of(relay) as ann, client_of(relay) as bob:
        assert await ask(ann, blob, len(data)) == ("", 0)
        for offset in (0, BLOB_CHUNK):
            await send(ann, blob, data, offset)
            assert await fetch(bob, blob) == ("not-found", b"")
        assert await send(ann, blob, data, 2 * BLOB_CHUNK) == ("", len(data))
        assert await fetch(bob, blob) == ("", data)
        assert await ask(ann, blob, len(data)) == ("", len(data))
        answer = await bob.call("downloadBlob", blob=blob, offset=len(data) - 3, limit=2)
        assert (answer.chunk, answer.total) == (data[-3:-1], len(data))
        answer = await bob.call("downloadBlob", blob=blob, offset=2**64 - 1)
        assert (answer.error.code, answer.chunk) == ("", b"")


async def test_a_repeated_or_early_chunk_changes_nothing(relay: Relay) -> None:
    blob, data = blob_of(3 * BLOB_CHUNK)
    device = new_device()
    async with client_of(relay, device) as one, client_of(relay, device) as two:
        assert await send(one, blob, data, BLOB_CHUNK) == ("", 0)
        assert await send(one, blob, data) == ("", BLOB_CHUNK)
        assert await send(two, blob, data) == ("", BLOB_CHUNK)
        assert await send(two, blob, data, 2 * BLOB_CHUNK) == ("", BLOB_CHUNK)
        await asyncio.gather(
            *(
                send(each, blob, data, at)
                for at in (BLOB_CHUNK, 2 * BLOB_CHUNK)
                for each in (one, two)
            )
        )
        assert await ask(one, blob, len(data)) == ("", len(data))
        assert await fetch(two, blob) == ("", data)


async def test_a_wrong_whole_is_refused_at_its_last_chunk_and_forgotten(relay: Relay) -> None:
    blob, data = blob_of(BLOB_CHUNK + 1)
    wrong = data[:-1] + bytes([data[-1] ^ 1])
    async with client_of(relay) as ann:
        await send(ann, blob, wrong)
        assert (await send(ann, blob, wrong, BLOB_CHUNK))[0] == "blob-mismatch"
        assert await ask(ann, blob, len(data)) == ("", 0)
        assert await fetch(ann, blob) == ("not-found", b"")
        await bring(ann, data)
        assert await fetch(ann, blob) == ("", data)
    assert +relay.store.blobs.counters == {"wrong": 1, "whole": 1}


async def test_another_device_cannot_spoil_an_upload(relay: Relay) -> None:
    blob, data = blob_of(2 * BLOB_CHUNK)
    async with client_of(relay) as ann, client_of(relay) as eve:
        await send(eve, blob, os.urandom(len(data)))
        await send(ann, blob, data)
        assert (await send(eve, blob, os.urandom(len(data)), BLOB_CHUNK))[0] == "blob-mismatch"
        assert await send(ann, blob, data, BLOB_CHUNK) == ("", len(data))
        assert await fetch(eve, blob) == ("", data)


@pytest.mark.parametrize(
    ("offset", "chunk", "total"),
    [
        (1, BLOB_CHUNK, 2 * BLOB_CHUNK),  # between two chunks
        (0, 1, 2),  # too short, and not the last
        (0, BLOB_CHUNK - 1, BLOB_CHUNK),
        (0, BLOB_CHUNK + 1, BLOB_CHUNK + 1),
        (0, 2, 1),  # beyond the end
        (BLOB_CHUNK, 1, BLOB_CHUNK),
        (2**64 - BLOB_CHUNK, 1, 2**64 - 1),
        (0, 0, 0),  # nothing at all
        (0, 0, 2**64 - 1),
    ],
)
async def test_what_is_no_chunk_of_a_blob(
    relay: Relay, offset: int, chunk: int, total: int
) -> None:
    async with client_of(relay) as ann:
        params = {"offset": offset, "chunk": bytes(chunk), "total": total}
        assert await ann.code("uploadBlob", blob=bytes(32), **params) == "malformed-request"
        assert await ann.code("uploadBlob", blob=bytes(31), **params) == "malformed-request"
    assert relay.store.usage.blobs == 0


async def test_an_uploader_that_vanishes_goes_on_with_another_connection(relay: Relay) -> None:
    blob, data = blob_of(2 * BLOB_CHUNK)
    device = new_device()
    async with client_of(relay, device) as ann:
        await send(ann, blob, data)
        ann.connection.close_now()
    async with client_of(relay, device) as ann:
        assert await ask(ann, blob, len(data)) == ("", BLOB_CHUNK)
        assert await send(ann, blob, data, BLOB_CHUNK) == ("", len(data))


async def test_one_that_vanishes_while_it_is_verified_asks_again(
    relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    blob, data = blob_of(BLOB_CHUNK)
    device = new_device()
    hashing, whole = asyncio.Event(), BlobMethods._hash

    async def never(*_: object) -> bytes:
        hashing.set()
        await asyncio.Event().wait()
        return b""

    monkeypatch.setattr(BlobMethods, "_hash", never)
    async with client_of(relay, device) as ann, client_of(relay, device) as again:
        sending = asyncio.create_task(send(ann, blob, data))
        await within(hashing.wait())
        assert (await ask(again, blob, len(data)))[0] == "busy", "it is verified once at a time"
        assert await fetch(again, blob) == ("not-found", b"")
        sending.cancel()
    monkeypatch.setattr(BlobMethods, "_hash", whole)
    async with client_of(relay, device) as ann:
        assert await ask(ann, blob, len(data)) == ("", len(data))
        assert await fetch(ann, blob) == ("", data)


async def test_quotas_of_a_device_and_of_the_relay(kj: None, clock: Clock, tmp_path: Path) -> None:
    quotas = Quotas(blob_bytes=3000, device_blob_bytes=3000, total_blob_bytes=10_000)
    async with (
        open_relay(config_for(tmp_path, quotas=quotas), clock=clock) as relay,
        client_of(relay) as ann,
        client_of(relay) as bob,
        client_of(relay) as eve,
    ):
        assert (await send(ann, *blob_of(3001)))[0] == "blob-too-large"
        assert (await send(ann, *blob_of(3000)))[0] == ""
        blob, data = blob_of(1)
        answer = await ann.call("uploadBlob", blob=blob, offset=0, chunk=data, total=1)
        assert answer.error.code == "blobs-full"
        assert answer.error.retryAfterMs > 0
        assert (await send(bob, *blob_of(2000)))[0] == ""
        assert (await send(eve, *blob_of(1)))[0] == "relay-full", "the part of strangers"
        assert relay.service.refusals == {"blob-too-large": 1, "blobs-full": 1, "relay-full": 1}


async def test_it_expires_an_unfinished_one_sooner(kj: None, clock: Clock, tmp_path: Path) -> None:
    config = config_for(tmp_path, blob_ttl_s=1000, unfinished_blob_ttl_s=100)
    async with open_relay(config, clock=clock) as relay, client_of(relay) as ann:
        whole = await bring(ann, os.urandom(10))
        blob, data = blob_of(2 * BLOB_CHUNK)
        await send(ann, blob, data)
        clock.now += 100
        assert await ask(ann, blob, len(data)) == ("", 0)
        clock.now += 800
        assert (await ask(ann, whole, 10))[0] == "", "whoever has it still wants it kept"
        clock.now += 999
        assert (await fetch(ann, whole))[0] == ""
        clock.now += 1
        assert (await fetch(ann, whole))[0] == "not-found"


async def test_bytes_of_blobs_count_like_those_of_parcels(
    kj: None, clock: Clock, tmp_path: Path
) -> None:
    limits = RelayLimits(device_bytes_burst=2 * BLOB_CHUNK - 1000, device_bytes_rate=1)
    async with (
        open_relay(config_for(tmp_path, limits=limits), clock=clock) as relay,
        client_of(relay) as ann,
        client_of(relay) as bob,
    ):
        blob, data = blob_of(3 * BLOB_CHUNK)
        codes = [(await send(ann, blob, data, at))[0] for at in (0, BLOB_CHUNK, 2 * BLOB_CHUNK)]
        assert codes == ["", "", "try-later"]
        small = await bring(bob, os.urandom(BLOB_CHUNK))
        assert (await fetch(bob, small))[0] == ""
        assert (await fetch(bob, small))[0] == "try-later"


async def test_a_flipped_chunk_is_never_served(kj: None, clock: Clock, tmp_path: Path) -> None:
    config = config_for(tmp_path)
    device = new_device()
    async with (
        open_relay(config, clock=clock) as relay,
        client_of(relay, device) as ann,
        client_of(relay) as bob,
    ):
        blob, data = blob_of(2 * BLOB_CHUNK)
        half, rest = blob_of(2 * BLOB_CHUNK)
        await bring(ann, data)
        await send(ann, half, rest)
        database = open_database(config.database)
        database.execute("UPDATE blob_chunks SET data = zeroblob(length(data)) WHERE part = 1")
        database.execute(
            "UPDATE blob_chunks SET checksum = checksum + 1"
            " WHERE blob = (SELECT number FROM blobs WHERE NOT whole)"
        )
        database.close()
        assert await fetch(bob, blob) == ("not-found", data[:BLOB_CHUNK])
        assert await fetch(bob, blob) == ("not-found", b""), "the rest goes with it"
        assert (await send(ann, half, rest, BLOB_CHUNK))[0] == "blob-mismatch"
        assert relay.store.blobs.counters["damaged"] == 1
        await bring(ann, data)
        assert await fetch(bob, blob) == ("", data), "whoever has it can bring it again"


async def test_what_was_answered_survives_kill_9(kj: None, tmp_path: Path) -> None:
    blob, data = blob_of(3 * BLOB_CHUNK)
    device, port = new_device(), 0
    for number in range(3):
        with RelayProcess(tmp_path, listen=f"127.0.0.1:{port}") as relay:
            port = relay.address.address.port
            async with client_of(relay.address, device) as ann:
                assert await ask(ann, blob, len(data)) == ("", number * BLOB_CHUNK)
                received = (number + 1) * BLOB_CHUNK
                assert await send(ann, blob, data, number * BLOB_CHUNK) == ("", received)
                relay.popen.kill()
                relay.popen.wait()
    with RelayProcess(tmp_path) as relay:
        async with client_of(relay.address) as bob:
            assert await fetch(bob, blob) == ("", data)


async def test_a_full_disk_refuses_and_forgets_nothing(kj: None, tmp_path: Path) -> None:
    needs_mounting()
    disk, device = tmp_path / "disk", new_device()
    disk.mkdir()
    with RelayProcess(disk / "data", inside=(*SMALL_DISK, str(disk))) as relay:
        ballast = Path(f"/proc/{relay.popen.pid}/root{disk}/ballast")
        fill(ballast)
        async with client_of(relay.address, device) as ann:
            blob, data = blob_of(3 * BLOB_CHUNK)
            received, code = 0, ""
            while not code and received < len(data):
                code, at = await send(ann, blob, data, received)
                received = received if code else at
            assert code == "disk-full"
            assert await ask(ann, blob, len(data)) == ("", received)
            ballast.unlink()
            while received < len(data):
                code, received = await send(ann, blob, data, received)
                assert code == ""
            assert await fetch(ann, blob) == ("", data)
