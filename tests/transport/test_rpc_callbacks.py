"""The server calls back an object of the client's: what a relay's push to a subscriber needs."""

from __future__ import annotations

import asyncio
import gc
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import capnp
import pytest

from schemas.errors import Fault, Unreachable
from tests.transport.support import ALPN, QUICK, Open, eventually, within
from transport import (
    Connection,
    ConnectionLost,
    RpcClient,
    RpcService,
    RpcSession,
    TransportLimits,
    connect_rpc,
    serve_rpc,
)

schema: Any = capnp.load(str(Path(__file__).with_name("rpc_test.capnp")))

pytestmark = pytest.mark.usefixtures("kj")


class Publisher(schema.Probe.Server):  # type: ignore[misc]
    """Keeps the sinks that it was given, beyond the call that gave them."""

    def __init__(self, session: RpcSession) -> None:
        self.session = session
        self.sinks: asyncio.Queue[RpcService] = asyncio.Queue()

    async def subscribe(self, sink: Any, **_: Any) -> None:
        self.sinks.put_nowait(self.session.service(sink, deadline_s=5.0))

    async def echo(self, data: bytes, **_: Any) -> bytes:
        return data


class Sink:
    """The subscriber's object: no base class needed."""

    def __init__(self) -> None:
        self.got: list[bytes] = []
        self.running = 0
        self.most = 0
        self.release = asyncio.Event()
        self.release.set()

    async def push(self, data: bytes, **_: Any) -> None:
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await self.release.wait()
            if data == b"crash":
                raise RuntimeError("a secret in /a/path")
            self.got.append(bytes(data))
        finally:
            self.running -= 1


@asynccontextmanager
async def subscribed(
    open_endpoint: Open,
    sink: Sink,
    *,
    server_limits: TransportLimits = QUICK,
    client_limits: TransportLimits = QUICK,
    counters: Counter[str] | None = None,
) -> AsyncIterator[tuple[RpcService, RpcClient, RpcService, Connection]]:
    """(the sink at the server, the client, its service, its connection)"""
    publishers: asyncio.Queue[Publisher] = asyncio.Queue()

    async def handler(connection: Connection) -> None:
        session = RpcSession(server_limits)
        publisher = Publisher(session)
        publishers.put_nowait(publisher)
        await serve_rpc(await connection.accept_stream(), publisher, session=session)

    server = await open_endpoint(handler, limits=server_limits)
    client = await open_endpoint(limits=client_limits)
    dialed = await within(client.dial([server.address], expected=server.device, alpn=ALPN))
    stream = await dialed.open_stream()
    async with connect_rpc(stream, limits=client_limits, counters=counters) as rpc:
        service = rpc.cast_as(schema.Probe)
        await within(service.subscribe(sink=rpc.export(schema.Sink, sink)))
        publisher = await within(publishers.get())
        yield await within(publisher.sinks.get()), rpc, service, dialed


async def test_pushes_arrive_in_order_while_calls_go_on(open_endpoint: Open) -> None:
    sink = Sink()
    async with subscribed(open_endpoint, sink) as (push, _, service, _):
        gc.collect()  # nobody but the session holds the sink now
        for index in range(200):
            await within(push.push(data=b"%d" % index))
            if index % 50 == 0:
                assert (await within(service.echo(data=b"x"))).data == b"x"
    assert sink.got == [b"%d" % index for index in range(200)]


async def test_a_subscriber_that_is_slow_holds_back_the_publisher(open_endpoint: Open) -> None:
    """At most `rpc_calls_in_flight` pushes are on their way; the rest wait at the publisher."""
    sink = Sink()
    sink.release.clear()
    limits = replace(QUICK, rpc_calls_in_flight=4)
    async with subscribed(open_endpoint, sink, server_limits=limits) as (push, _, service, _):
        pushes = asyncio.gather(*(push.push(data=b"%d" % i) for i in range(30)))
        await eventually(lambda: sink.running == 4)
        # The subscriber's own calls are answered meanwhile.
        assert (await within(service.echo(data=b"x"))).data == b"x"
        assert sink.most == 4
        sink.release.set()
        await within(pushes)
    assert sink.most == 4
    assert len(sink.got) == 30


async def test_a_publisher_that_ignores_the_bound_is_held_by_the_subscriber(
    open_endpoint: Open,
) -> None:
    sink = Sink()
    sink.release.clear()
    async with subscribed(
        open_endpoint, sink, client_limits=replace(QUICK, rpc_calls_in_flight=4)
    ) as (push, _, _, dialed):
        pushes = asyncio.gather(*(push.push(data=b"%d" % i) for i in range(60)))
        await eventually(lambda: sink.running == 4)
        for _ in range(10):
            await within(dialed.ping())
        assert sink.most == 4
        sink.release.set()
        await within(pushes)
    assert sink.most == 4
    assert len(sink.got) == 60


async def test_a_push_that_fails_tells_the_publisher_a_code_and_nothing_else(
    open_endpoint: Open, caplog: pytest.LogCaptureFixture
) -> None:
    sink = Sink()
    counters: Counter[str] = Counter()
    async with subscribed(open_endpoint, sink, counters=counters) as (push, _, _, _):
        with pytest.raises(Fault) as caught:
            await within(push.push(data=b"crash"))
        assert caught.value.code == "rpc-failed"
        told = str(caught.value.__cause__).split("remote exception:")[-1].split("stack:")[0]
        assert "internal-error" in told
        for leak in ("secret", "Traceback", ".py", "/a/path"):
            assert leak not in told
        await within(push.push(data=b"goes on"))
    assert sink.got == [b"goes on"]
    assert counters["rpc-method-crashed"] == 1


async def test_a_subscriber_that_goes_fails_the_push(open_endpoint: Open) -> None:
    sink = Sink()
    sink.release.clear()
    async with subscribed(open_endpoint, sink) as (push, _, _, dialed):
        pending = asyncio.create_task(push.push(data=b"1"))
        await eventually(lambda: sink.running == 1)
        await dialed.close(7, "gone")
        with pytest.raises(ConnectionLost):
            await within(pending)
        with pytest.raises(ConnectionLost):
            await within(push.push(data=b"2"))
    await eventually(lambda: sink.running == 0)


async def test_a_push_has_a_deadline(open_endpoint: Open) -> None:
    sink = Sink()
    sink.release.clear()
    async with subscribed(open_endpoint, sink) as (push, _, _, _):
        push._deadline_s = 0.05
        with pytest.raises(Unreachable) as caught:
            await within(push.push(data=b"1"))
        assert caught.value.code == "rpc-deadline"
        await eventually(lambda: sink.running == 0)


async def test_the_number_of_exports_is_bounded_and_comes_back(open_endpoint: Open) -> None:
    sink = Sink()
    async with subscribed(open_endpoint, sink, client_limits=replace(QUICK, rpc_exports=3)) as (
        _,
        rpc,
        _,
        _,
    ):
        held = [rpc.export(schema.Sink, Sink()) for _ in range(2)]
        with pytest.raises(Fault) as caught:
            rpc.export(schema.Sink, Sink())
        assert caught.value.code == "too-many-exports"
        held.clear()
        gc.collect()
        rpc.export(schema.Sink, Sink())
