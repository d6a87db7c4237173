"""Random and mutated datagrams at an endpoint in use: counted, harmless, and never a dead loop."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.errors import Malformed
from tests.transport.support import Open, eventually, pair, within
from transport import Endpoint, FrameStream
from transport.stream_table import StreamTable


async def _echo_works(dialed: object, accepted: object) -> None:
    stream = await dialed.open_stream()  # type: ignore[attr-defined]
    await stream.write(b"still here")
    await stream.finish()
    theirs = await within(accepted.accept_stream())  # type: ignore[attr-defined]
    assert await within(theirs.read()) == b"still here"


@pytest.mark.parametrize("seed", range(4))
async def test_noise_around_a_live_connection(
    open_endpoint: Open,
    seed: int,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Copies of real datagrams with bits flipped, cut, joined, and noise, from elsewhere."""
    dice = random.Random(seed)
    real: list[bytes] = []
    send = Endpoint.send

    def tapped(self: Endpoint, data: bytes, *how: Any) -> bool:
        real.append(bytes(data))
        return send(self, data, *how)

    monkeypatch.setattr(Endpoint, "send", tapped)
    dialed, accepted = await pair(open_endpoint)
    server, client = open_endpoint.endpoints
    await _echo_works(dialed, accepted)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        for _ in range(600):
            data = bytearray(dice.choice(real))
            match dice.randrange(5):
                case 0:
                    data = bytearray(dice.randbytes(dice.randrange(1, 1_500)))
                case 1:
                    for _ in range(dice.randrange(1, 8)):
                        data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
                case 2:
                    data = data[: dice.randrange(len(data) + 1)]
                case 3:
                    data += dice.choice(real)[: dice.randrange(1, 1_200)]
                case 4:
                    data[0] = dice.randrange(256)
            target = dice.choice((server, client)).address
            stranger.sendto(bytes(data), (target.host, target.port))
            if dice.random() < 0.1:
                await asyncio.sleep(0)
    await within(dialed.ping())
    await _echo_works(dialed, accepted)
    for endpoint in (server, client):
        assert "internal-error" not in endpoint.counters
        assert sum(endpoint.counters.values()) > 20, "what was dropped was counted"
    assert "failed on received bytes" not in caplog.text
    await eventually(lambda: not server._admission.half_open, 3.0)


class _Fed:
    """As much of a Stream as FrameStream reads from: `chunks`, then the end."""

    def __init__(self, chunks: list[bytes]) -> None:
        self._chunks = [each for each in chunks if each]

    async def read(self, max_bytes: int) -> bytes:
        if not self._chunks:
            return b""
        head = self._chunks[0]
        if len(head) > max_bytes:
            self._chunks[0] = head[max_bytes:]
            return head[:max_bytes]
        return self._chunks.pop(0)


@given(payloads=st.lists(st.binary(max_size=300), max_size=20), cuts=st.lists(st.integers(1, 50)))
def test_frames_survive_any_cutting(payloads: list[bytes], cuts: list[int]) -> None:
    data = b"".join(len(each).to_bytes(4, "little") + each for each in payloads)
    chunks, start = [], 0
    for cut in cuts:
        chunks.append(data[start : start + cut])
        start += cut
    frames = FrameStream(_Fed([*chunks, data[start:]]))  # type: ignore[arg-type]

    async def read_all() -> list[bytes]:
        got = []
        while (payload := await frames.read()) is not None:
            got.append(payload)
        return got

    assert asyncio.run(read_all()) == payloads


@given(chunks=st.lists(st.binary(max_size=64), max_size=20))
@settings(max_examples=300)
def test_bytes_that_are_no_frames_raise_one_type(chunks: list[bytes]) -> None:
    frames = FrameStream(_Fed(chunks), max_read=40)  # type: ignore[arg-type]

    async def read_all() -> None:
        while await frames.read() is not None:
            pass

    with contextlib.suppress(Malformed):  # and nothing else
        asyncio.run(read_all())
    assert len(frames._buffer) <= 65_536 + 64


class _Dummy:
    def __init__(self, stream_id: int) -> None:
        self.stream_id = stream_id

    def connection_over(self) -> None: ...


@given(
    dialed=st.booleans(),
    steps=st.lists(st.tuples(st.sampled_from(["find", "forget"]), st.integers(0, 255))),
)
def test_a_stream_is_offered_once_and_stays_forgotten(
    dialed: bool, steps: list[tuple[str, int]]
) -> None:
    """Whatever order ids arrive in: each of the peer's is offered once, none comes back."""
    refused: list[int] = []
    table = StreamTable(
        dialed=dialed,
        accept_queue=8,
        make=_Dummy,  # type: ignore[arg-type]
        refuse=lambda stream: (refused.append(stream.stream_id), table.forget(stream.stream_id)),  # type: ignore[arg-type, func-returns-value]
    )
    offered: set[int] = set()
    forgotten: set[int] = set()
    for step, stream_id in steps:
        stream_id = stream_id & ~2  # bidirectional
        if step == "find":
            known = len(table)
            found = table.find(stream_id)
            ours = (stream_id & 1 == 0) == dialed
            assert found is None or not ours
            if found is not None and len(table) > known:
                assert stream_id not in offered
                assert stream_id not in forgotten
                offered.add(stream_id)
        elif table.forget(stream_id):
            forgotten.add(stream_id)
    assert len(refused) == len(set(refused))
    assert len(table._waiting) <= 8
    assert {each.stream_id for each in table} == offered - forgotten
