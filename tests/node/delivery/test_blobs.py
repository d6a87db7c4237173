"""Blobs between a node and a relay: resumed, verified, a piece at a time in memory."""

from __future__ import annotations

import io
import os
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from identity.keys import device_from_seed, new_seed
from identity.sealed_blob import open_blob_untrusted, seal_blob
from node.delivery.blobs import BlobName, Connect, download_blob, name_blob, upload_blob
from node.delivery.limits import DeliveryLimits
from node.delivery.relay_client import RelayRefused
from node.delivery.relay_pool import RelayPool
from relay.server import Relay, open_relay
from schemas.errors import Blame, Fault, Malformed
from schemas.frames import ErrorFrame
from schemas.ids import BlobId
from schemas.limits import BLOB_CHUNK
from tests.node.delivery.support import within
from tests.relay.process import RelayProcess
from tests.relay.support import config_for
from transport import Address, ConnectionLost, Endpoint

LIMITS = DeliveryLimits(relay_retry_first_s=0.05, relay_retry_last_s=0.2)


@pytest.fixture
async def relay(kj: None, tmp_path: Path) -> AsyncIterator[Relay]:
    async with open_relay(config_for(tmp_path / "relay", dht=False)) as relay:
        yield relay


@asynccontextmanager
async def pool_of() -> AsyncIterator[RelayPool]:
    device = device_from_seed(new_seed())
    endpoint = await Endpoint.open(device.private, Address("127.0.0.1", 0), handlers={})
    pool = RelayPool(endpoint, device.public, LIMITS, Counter())
    try:
        yield pool
    finally:
        await pool.close()
        await endpoint.close()


async def test_a_sealed_file_goes_up_and_comes_down_elsewhere(relay: Relay, tmp_path: Path) -> None:
    content = os.urandom(3 * BLOB_CHUNK + 100)
    key, pieces = seal_blob(len(content), [content])
    sealed, fetched = tmp_path / "sealed", tmp_path / "fetched"
    sealed.write_bytes(b"".join(pieces))
    up, down = [], []
    async with pool_of() as ann, pool_of() as bob:
        with sealed.open("rb") as source:
            name = await name_blob(source)
            await within(
                upload_blob(
                    lambda: ann.client(relay.address),
                    source,
                    name,
                    on_progress=lambda at, of: up.append((at, of)),
                )
            )
        with fetched.open("w+b") as target:
            await within(
                download_blob(
                    lambda: bob.client(relay.address),
                    name,
                    target,
                    on_progress=lambda at, of: down.append((at, of)),
                )
            )
    assert fetched.read_bytes() == sealed.read_bytes()
    portions = [sealed.read_bytes()[at : at + BLOB_CHUNK] for at in range(0, name.size, BLOB_CHUNK)]
    assert b"".join(open_blob_untrusted(key, portions)) == content
    ends = [min(at, name.size) for at in range(0, name.size + BLOB_CHUNK, BLOB_CHUNK)]
    assert up == down == [(at, name.size) for at in ends]


async def test_both_ways_go_on_after_the_relay_was_killed(kj: None, tmp_path: Path) -> None:
    data = os.urandom(6 * BLOB_CHUNK)
    source, target = io.BytesIO(data), io.BytesIO()
    name = await name_blob(source)
    process = RelayProcess(tmp_path).__enter__()
    listen = str(process.address.address)
    kills: list[int] = []

    def kill_halfway(at: int, of: int) -> None:
        nonlocal process
        if 2 * at == of:
            kills.append(at)
            process.popen.kill()
            process.__exit__(None, None, None)
            process = RelayProcess(tmp_path, listen=listen).__enter__()

    try:
        async with pool_of() as pool:
            address = process.address
            connect = lambda: pool.client(address)  # noqa: E731
            await within(upload_blob(connect, source, name, on_progress=kill_halfway), 30)
            await within(download_blob(connect, name, target, on_progress=kill_halfway), 30)
    finally:
        process.__exit__(None, None, None)
    assert kills == [3 * BLOB_CHUNK] * 2
    assert target.getvalue() == data


@dataclass
class Seen:
    """Where the progress of a transfer was told to be."""

    at: list[int] = field(default_factory=list)

    def __call__(self, at: int, _: int) -> None:
        self.at.append(at)


async def test_a_download_goes_on_from_what_a_file_holds(relay: Relay) -> None:
    data = os.urandom(2 * BLOB_CHUNK + 9)
    name = await name_blob(io.BytesIO(data))
    async with pool_of() as pool:
        connect = lambda: pool.client(relay.address)  # noqa: E731
        await within(upload_blob(connect, io.BytesIO(data), name))
        for held in (b"", data[:10], data[: BLOB_CHUNK + 1], data, data + b"more"):
            target, seen = io.BytesIO(held), Seen()
            await within(download_blob(connect, name, target, on_progress=seen))
            assert target.getvalue() == data
            assert seen.at[0] == (len(held) if len(held) <= len(data) else 0)
        target = io.BytesIO(b"wrong")
        with pytest.raises(Malformed) as raised:
            await within(download_blob(connect, name, target))
        assert (raised.value.code, target.getvalue()) == ("blob-mismatch", b"")
        await within(download_blob(connect, name, target))
        assert target.getvalue() == data


async def test_the_relays_refusal_comes_out(relay: Relay) -> None:
    async with pool_of() as pool:
        connect = lambda: pool.client(relay.address)  # noqa: E731
        with pytest.raises(RelayRefused) as raised:
            await within(download_blob(connect, BlobName(BlobId(bytes(32)), 5), io.BytesIO()))
        assert raised.value.code == "not-found"
        with pytest.raises(RelayRefused) as raised:
            await within(upload_blob(connect, io.BytesIO(b"other"), BlobName(BlobId(bytes(32)), 5)))
        assert raised.value.code == "blob-mismatch"
        with pytest.raises(Fault) as changed:
            await within(upload_blob(connect, io.BytesIO(b"short"), BlobName(BlobId(bytes(32)), 9)))
        assert changed.value.code == "blob-changed"


@dataclass
class HostileRelay:
    """Answers with `answers` in turn, the last one for ever."""

    answers: list[object]
    asked: int = 0

    async def _answer(self) -> object:
        self.asked += 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, BaseException):
            raise answer
        return answer

    async def upload_blob(self, *_: object) -> object:
        return await self._answer()

    async def download_blob(self, *_: object) -> object:
        return await self._answer()

    @property
    def connect(self) -> Connect:
        async def connect() -> HostileRelay:
            return self

        return connect  # type: ignore[return-value]


async def test_a_relay_that_takes_nothing_is_not_asked_for_ever() -> None:
    data = os.urandom(2 * BLOB_CHUNK)
    name = await name_blob(io.BytesIO(data))
    for answers in ([0], [BLOB_CHUNK, 0, BLOB_CHUNK, 0]):
        relay = HostileRelay(list(answers))
        with pytest.raises(Fault) as raised:
            await within(upload_blob(relay.connect, io.BytesIO(data), name, patience_s=0.6))
        assert raised.value.code == "blob-stuck"
        assert relay.asked < 10


async def test_a_relay_that_is_away_for_too_long_is_given_up() -> None:
    relay = HostileRelay([ConnectionLost("idle-timeout", "gone", blame=Blame.ENVIRONMENT)])
    with pytest.raises(ConnectionLost):
        await within(
            upload_blob(
                relay.connect, io.BytesIO(b"x"), BlobName(BlobId(bytes(32)), 1), patience_s=0.1
            )
        )


async def test_one_that_is_busy_is_asked_later() -> None:
    data = os.urandom(10)
    busy = RelayRefused.of(ErrorFrame("busy", "", "", 10))
    relay = HostileRelay([busy, 0, busy, 10])
    await within(upload_blob(relay.connect, io.BytesIO(data), await name_blob(io.BytesIO(data))))
    assert relay.asked == 4


@pytest.mark.parametrize("answer", [(b"", 10), (b"x", 9), (b"x" * 11, 10), (b"x", 2**53 - 1)])
async def test_a_relay_that_shows_another_blob(answer: tuple[bytes, int]) -> None:
    with pytest.raises(Malformed):
        await within(
            download_blob(
                HostileRelay([answer]).connect, BlobName(BlobId(bytes(32)), 10), io.BytesIO()
            )
        )
