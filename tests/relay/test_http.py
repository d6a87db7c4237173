"""`/metrics` and `/health`: for this machine, robust, and silent about people."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from relay import http
from relay.server import Relay, open_relay
from relay.store.sqlite import writer as writing
from schemas.addresses import Address
from schemas.errors import Blame, Fault
from tests.relay.support import Clock, client_of, config_for, new_device, parcel, within


@pytest.fixture
async def relay(kj: None, clock: Clock, tmp_path: Path) -> AsyncIterator[Relay]:
    config = config_for(tmp_path, metrics=Address("127.0.0.1", 0))
    async with open_relay(config, clock=clock) as relay:
        yield relay


async def ask(relay: Relay, request: bytes) -> tuple[str, bytes]:
    """(status line, body)."""
    assert relay.metrics is not None
    reader, writer = await asyncio.open_connection(*relay.metrics)
    try:
        writer.write(request)
        answer = await within(reader.read())
        head, _, body = answer.partition(b"\r\n\r\n")
        return head.partition(b"\r\n")[0].decode(), body
    finally:
        writer.close()
        await asyncio.gather(writer.wait_closed(), return_exceptions=True)


async def get(relay: Relay, path: str) -> tuple[int, bytes]:
    line, body = await ask(relay, f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    return int(line.split(" ")[1]), body


async def test_what_happens_is_counted_and_no_key_is_told(relay: Relay) -> None:
    bob = new_device()
    async with client_of(relay) as alice, client_of(relay, bob) as client:
        await alice.enqueue(parcel(bob.public))
        await client.peek()
        await client.ack(1)
        assert await client.code("peek", recipientKey=bytes(32)) == "not-your-mailbox"
        status, body = await get(relay, "/metrics")
        text = body.decode()
        assert status == 200
        for line in (
            'quicnprotochat_refused_total{reason="not-your-mailbox"} 1.0',
            'quicnprotochat_parcels_total{event="accepted"} 1.0',
            'quicnprotochat_parcels_total{event="acknowledged"} 1.0',
            'quicnprotochat_call_seconds_count{method="enqueue"} 1.0',
            "quicnprotochat_connections 2.0",
            "quicnprotochat_mailboxes 1.0",
            "quicnprotochat_healthy 1.0",
        ):
            assert line in text, line
        assert "quicnprotochat_commit_sync_seconds_count" in text
        for secret in (bob.public.hex(), alice.device.public.hex(), relay.device.hex()):
            assert secret[:12] not in text
        assert "127.0.0.1" not in text


async def test_health_is_what_the_disk_is(relay: Relay, monkeypatch: pytest.MonkeyPatch) -> None:
    assert await get(relay, "/health")
    status, body = await get(relay, "/health")
    assert (status, json.loads(body)["status"]) == (200, "ok")

    def failing(code: str) -> object:
        def transaction(_: object) -> object:
            raise Fault(code, code, blame=Blame.ENVIRONMENT)

        return transaction

    async with client_of(relay) as client:
        for code, word in (("disk-full", "degraded"), ("disk-error", "unhealthy")):
            with monkeypatch.context() as patch:
                patch.setattr(writing, "transaction", failing(code))
                await client.enqueue(parcel(new_device().public))
            status, body = await get(relay, "/health")
            assert (status, json.loads(body)["status"]) == (503, word)
            assert json.loads(body)["reason"] == code
            told = await client.call("health")
            assert told.status == word
            assert told.clockMs > 0
        await relay.store.probe(now=1)
        assert (await get(relay, "/health"))[0] == 200


@pytest.mark.parametrize(
    "garbage",
    [
        b"\r\n\r\n",
        b"GET\r\n\r\n",
        b"POST /metrics HTTP/1.1\r\n\r\n",
        b"GET /metrics HTTP/9\r\n\r\n",
        b"GET /../etc HTTP/1.1\r\n\r\n",
        bytes(range(128, 256)) + b"\r\n\r\n",
        b"A" * (http.REQUEST_BYTES * 3),
        b"GET /metrics HTTP/1.1\r\n" + b"X: y\r\n" * 10_000,
    ],
)
async def test_garbage_is_refused_and_the_next_is_answered(relay: Relay, garbage: bytes) -> None:
    try:
        line, _ = await ask(relay, garbage)
        assert line == "" or line.split(" ")[1] in ("400", "404", "405"), line
    except ConnectionError:
        pass  # cut off
    assert (await get(relay, "/health"))[0] == 200


async def test_slow_clients_are_bounded_in_number_and_time(
    relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "DEADLINE_S", 0.2)
    assert relay.metrics is not None
    slow = [await asyncio.open_connection(*relay.metrics) for _ in range(http.REQUESTS + 20)]
    for _, writer in slow:
        writer.write(b"GET /metr")
    ends = [reader.read() for reader, _ in slow]
    answers = await within(asyncio.gather(*ends, return_exceptions=True), 10)
    assert not any(isinstance(answer, bytes) and answer for answer in answers)
    for _, writer in slow:
        writer.close()
        await asyncio.gather(writer.wait_closed(), return_exceptions=True)
    assert (await get(relay, "/health"))[0] == 200


async def test_one_request_too_many_is_cut_off_at_once(relay: Relay) -> None:
    assert relay.metrics is not None
    held = [await asyncio.open_connection(*relay.metrics) for _ in range(http.REQUESTS)]
    await asyncio.sleep(0.05)  # the relay has accepted them
    reader, writer = await asyncio.open_connection(*relay.metrics)
    [cut] = await within(asyncio.gather(reader.read(), return_exceptions=True), http.DEADLINE_S / 2)
    assert cut == b"" or isinstance(cut, ConnectionError)
    for _, each in [*held, (reader, writer)]:
        each.transport.abort()


async def test_a_client_that_never_reads_does_not_hold_the_relay(relay: Relay) -> None:
    assert relay.metrics is not None
    writers = []
    for _ in range(4):
        _, writer = await asyncio.open_connection(*relay.metrics)
        writer.write(b"GET /metrics HTTP/1.1\r\n\r\n")
        writers.append(writer)
    async with client_of(relay) as client:
        assert await client.code("health") == ""
    for writer in writers:
        writer.transport.abort()
