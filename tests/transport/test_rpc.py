"""Cap'n Proto RPC on a stream: what a relay's clients call, and what strangers send instead."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import capnp
import pytest

from schemas.errors import Fault, Malformed, Refused, Unreachable
from tests.transport.support import ALPN, QUICK, Open, eventually, within
from transport import (
    Connection,
    ConnectionLost,
    RpcClient,
    Stream,
    TransportLimits,
    connect_rpc,
    serve_rpc,
)

schema: Any = capnp.load(str(Path(__file__).with_name("rpc_test.capnp")))

pytestmark = pytest.mark.usefixtures("kj")


class Probe(schema.Probe.Server):  # type: ignore[misc]
    def __init__(self) -> None:
        self.running = 0
        self.most = 0
        self.cancelled = 0
        self.echoed = 0
        self.stubborn = False
        self.release = asyncio.Event()

    async def echo(self, data: bytes, **_: Any) -> bytes:
        self.echoed += 1
        return data

    async def fail(self, **_: Any) -> None:
        raise RuntimeError("a secret in /a/path")

    async def malformed(self, **_: Any) -> None:
        raise Malformed("parcel-malformed", "a parcel is broken")

    async def hang(self, **_: Any) -> None:
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await self.release.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            if not self.stubborn:
                raise
            await self.release.wait()
        finally:
            self.running -= 1

    async def count(self, bomb: Any, **_: Any) -> int:
        return sum(1 for _ in bomb)

    async def visit(self, node: Any, **_: Any) -> int:
        depth = 0
        while node._has("next"):
            node = node.next
            depth += 1
        return depth

    async def byContext_context(self, context: Any) -> None:
        context.results.number = context.params.number + 1

    async def call(self, back: Any, **_: Any) -> bytes:
        return bytes((await back.echo(data=b"from the server")).data)


class Served:
    """A server endpoint with one Probe, and what a test wants to know of it."""

    def __init__(self, limits: TransportLimits) -> None:
        self.limits = limits
        self.probe = Probe()
        self.counters: Counter[str] = Counter()
        self.streams = 0
        self.ended = 0
        self.connection: Connection | None = None

    async def handler(self, connection: Connection) -> None:
        self.connection = connection
        async with asyncio.TaskGroup() as group:
            while True:
                group.create_task(self.serve(await connection.accept_stream()))

    async def serve(self, stream: Stream) -> None:
        self.streams += 1
        try:
            await serve_rpc(stream, self.probe, limits=self.limits, counters=self.counters)
        finally:
            self.ended += 1


async def served(open_endpoint: Open, limits: TransportLimits = QUICK) -> tuple[Served, Connection]:
    server_side = Served(limits)

    async def handler(connection: Connection) -> None:
        try:
            await server_side.handler(connection)
        except* ConnectionLost:
            pass

    server = await open_endpoint(handler, limits=limits)
    client = await open_endpoint(limits=limits)
    dialed = await within(client.dial([server.address], expected=server.device, alpn=ALPN))
    return server_side, dialed


@asynccontextmanager
async def probe(
    dialed: Connection, limits: TransportLimits = QUICK
) -> AsyncIterator[tuple[Any, RpcClient]]:
    async with connect_rpc(await dialed.open_stream(), limits=limits) as client:
        yield client.cast_as(schema.Probe), client


async def test_call_and_request(open_endpoint: Open) -> None:
    _, dialed = await served(open_endpoint)
    async with probe(dialed) as (service, _):
        assert (await within(service.echo(data=b"hi"))).data == b"hi"
        assert (await within(service.byContext(number=41))).number == 42
        request = service.echo_request()
        request.data = b"by request"
        assert (await within(request.send())).data == b"by request"
        big = os.urandom(1_000_000)
        assert (await within(service.echo(data=big))).data == big
        with pytest.raises(AttributeError):
            _ = service.nonsense


async def test_the_server_can_call_back(open_endpoint: Open) -> None:
    _, dialed = await served(open_endpoint)
    async with probe(dialed) as (service, _):
        assert (await within(service.call(back=Probe()))).data == b"from the server"


async def test_64_calls_in_flight(open_endpoint: Open) -> None:
    server, dialed = await served(open_endpoint)
    async with probe(dialed) as (service, _):
        calls = asyncio.gather(*(service.hang() for _ in range(64)))
        await eventually(lambda: server.probe.running == 64)
        server.probe.release.set()
        await within(calls)
        answers = await within(asyncio.gather(*(service.echo(data=b"%d" % i) for i in range(500))))
        assert [answer.data for answer in answers] == [b"%d" % i for i in range(500)]


async def test_more_calls_wait_at_the_client(open_endpoint: Open) -> None:
    limits = replace(QUICK, rpc_calls_in_flight=4)
    server, dialed = await served(open_endpoint, limits)
    async with probe(dialed, limits) as (service, _):
        calls = asyncio.gather(*(service.hang() for _ in range(20)))
        await eventually(lambda: server.probe.running == 4)
        await within(dialed.ping())
        assert server.probe.running == 4
        server.probe.release.set()
        await within(calls)
        assert server.probe.most == 4


async def test_a_client_that_ignores_the_bound_is_held_by_the_server(open_endpoint: Open) -> None:
    """Nothing more is read from it, so its calls pile up at its own end."""
    server, dialed = await served(open_endpoint, replace(QUICK, rpc_calls_in_flight=4))
    async with probe(dialed, replace(QUICK, rpc_calls_in_flight=10_000)) as (service, _):
        calls = asyncio.gather(
            *(service.hang() for _ in range(200)), service.echo(data=bytes(900_000))
        )
        await eventually(lambda: server.probe.running == 4)
        for _ in range(20):
            await within(dialed.ping())
        assert server.probe.most == 4
        server.probe.release.set()
        await within(calls)
        assert server.probe.most == 4


async def test_an_exception_fails_its_call_only_and_stays_at_home(
    open_endpoint: Open, caplog: pytest.LogCaptureFixture
) -> None:
    server, dialed = await served(open_endpoint)
    async with probe(dialed) as (service, _):
        for _ in range(3):
            with pytest.raises(Fault) as caught:
                await within(service.fail())
            assert caught.value.code == "rpc-failed"
            assert "internal-error" in caught.value.message
            told = str(caught.value.__cause__)
            for leak in ("secret", "Traceback", ".py", "/work", "transport"):
                assert leak not in told.split("stack:")[0].split("remote exception:")[-1]
            assert (await within(service.echo(data=b"goes on"))).data == b"goes on"
        with pytest.raises(Fault) as caught:
            await within(service.malformed())
        assert "parcel-malformed" in caught.value.message
    assert server.counters["rpc-method-crashed"] == 3
    assert server.counters["rpc-parcel-malformed"] == 1
    assert "a secret" in caplog.text


async def test_a_method_that_is_declared_and_not_built(open_endpoint: Open) -> None:
    server, dialed = await served(open_endpoint)
    async with probe(dialed) as (service, client):
        with pytest.raises(Fault) as caught:
            await within(service.missing())
        assert "unimplemented" in caught.value.message
        with pytest.raises(Refused) as refused:
            await within(client.cast_as(schema.Other).nothing())
        assert refused.value.code == "unimplemented"
    assert server.counters["rpc-unimplemented"] == 1


async def test_a_call_has_a_deadline(open_endpoint: Open) -> None:
    server, dialed = await served(open_endpoint)
    async with probe(dialed) as (_, client):
        service = client.cast_as(schema.Probe, deadline_s=0.1)
        with pytest.raises(Unreachable) as caught:
            await within(service.hang())
        assert caught.value.code == "rpc-deadline"
        await eventually(lambda: server.probe.cancelled == 1)
        assert (await within(service.echo(data=b"on"))).data == b"on"


async def test_abrupt_end_fails_pending_calls_at_once(open_endpoint: Open) -> None:
    server, dialed = await served(open_endpoint)
    async with probe(dialed) as (service, _):
        calls = [asyncio.create_task(service.hang()) for _ in range(10)]
        await eventually(lambda: server.probe.running == 10)
        dialed.abort()
        started = asyncio.get_running_loop().time()
        done = await within(asyncio.gather(*calls, return_exceptions=True))
        assert asyncio.get_running_loop().time() - started < 5, "no call waited for its deadline"
        assert {each.code for each in done if isinstance(each, ConnectionLost)} == {
            "connection-lost"
        }
        assert all(isinstance(each, ConnectionLost) for each in done)
        with pytest.raises(ConnectionLost):
            await within(service.echo(data=b"too late"))


async def test_the_end_of_the_peer_cancels_its_methods(open_endpoint: Open) -> None:
    server, dialed = await served(open_endpoint)
    async with probe(dialed) as (service, _):
        calls = [asyncio.create_task(service.hang()) for _ in range(10)]
        await eventually(lambda: server.probe.running == 10)
        await dialed.close()
        await within(asyncio.gather(*calls, return_exceptions=True))
    await eventually(lambda: server.ended == 1)
    assert server.probe.cancelled == 10


async def test_the_server_ends_while_calls_are_pending(open_endpoint: Open) -> None:
    server, dialed = await served(open_endpoint)
    async with probe(dialed) as (service, _):
        call = asyncio.create_task(service.hang())
        await eventually(lambda: server.probe.running == 1)
        assert server.connection is not None
        await server.connection.close(5, "bye")
        with pytest.raises(ConnectionLost) as caught:
            await within(call)
        assert caught.value.reason is not None
        assert caught.value.reason.text == "bye"


async def test_leaving_the_context_ends_the_servers_side(open_endpoint: Open) -> None:
    server, dialed = await served(open_endpoint)

    async def crash() -> None:
        async with probe(dialed) as (service, _):
            await within(service.echo(data=b""))
            raise KeyError("an exception of the caller arrives as it is")

    with pytest.raises(KeyError):
        await crash()
    await eventually(lambda: server.ended == 1)
    assert not dialed.closed


async def test_bombs_are_refused(open_endpoint: Open) -> None:
    """Few bytes that unfold into millions of elements, or into endless depth."""
    server, dialed = await served(open_endpoint)
    async with probe(dialed) as (service, _):
        request = service.count_request()
        request.init("bomb", 500_000_000)
        with pytest.raises(Fault) as caught:
            await within(request.send())
        assert "malformed" in caught.value.message
        request = service.visit_request()
        node = request.init("node")
        for _ in range(40):
            node = node.init("next")
        with pytest.raises(Fault) as caught:
            await within(request.send())
        assert "malformed" in caught.value.message
        assert (await within(service.echo(data=b"goes on"))).data == b"goes on"
    assert server.counters["rpc-malformed"] == 2


async def test_a_message_over_the_limit_ends_the_stream(open_endpoint: Open) -> None:
    server, dialed = await served(open_endpoint, replace(QUICK, rpc_message=64 * 1024))
    async with probe(dialed) as (service, _):
        with pytest.raises(Fault) as caught:
            await within(service.echo(data=bytes(2_000_000)))
        assert caught.value.code in ("rpc-disconnected", "rpc-failed")
    await eventually(lambda: server.ended == 1)


@pytest.mark.parametrize(
    "garbage",
    [
        b"\xff" * 64,
        b"\x00" * 64,
        b"\x00\x00\x00\x00\xff\xff\xff\x7f" * 8,
        b"\x00\x00\x00\x00\x02\x00\x00\x00" + b"\xee" * 16,
        b"GET / HTTP/1.1\r\n\r\n" * 20,
        b"\x01",
        b"",
    ],
)
async def test_garbage_ends_the_stream_and_nothing_else(
    open_endpoint: Open, garbage: bytes
) -> None:
    server, dialed = await served(open_endpoint)
    stream = await dialed.open_stream()
    await stream.write(garbage)
    await stream.finish()
    await eventually(lambda: server.ended == 1)
    async with probe(dialed) as (service, _):
        assert (await within(service.echo(data=b"goes on"))).data == b"goes on"


async def test_random_garbage(open_endpoint: Open) -> None:
    server, dialed = await served(open_endpoint)
    for _ in range(100):
        stream = await dialed.open_stream()
        await stream.write(bytes([0, 0, 0, 0, 8, 0, 0, 0]) + os.urandom(200))
        await stream.finish()
        stream.stop()
    await eventually(lambda: server.ended == 100)
    async with probe(dialed) as (service, _):
        assert (await within(service.echo(data=b"goes on"))).data == b"goes on"


async def test_garbage_from_a_server(open_endpoint: Open) -> None:
    async def handler(connection: Connection) -> None:
        stream = await connection.accept_stream()
        await stream.write(b"\xff" * 1000)
        await connection.wait_closed()

    server, client = await open_endpoint(handler), await open_endpoint()
    dialed = await within(client.dial([server.address], expected=server.device, alpn=ALPN))
    async with probe(dialed) as (service, _):
        with pytest.raises(Fault):
            await within(service.echo(data=b"hello?"), 3)


async def test_five_hundred_sessions_leave_nothing(open_endpoint: Open) -> None:
    server, dialed = await served(open_endpoint)
    before = len(asyncio.all_tasks())
    for turn in range(500):
        async with probe(dialed) as (service, _):
            assert (await within(service.echo(data=b"%d" % turn))).data == b"%d" % turn
    await eventually(lambda: server.ended == 500)
    await eventually(lambda: len(asyncio.all_tasks()) <= before)
    await eventually(lambda: not dialed._streams)
    await eventually(lambda: dialed.quic.unacknowledged_total() == 0)
