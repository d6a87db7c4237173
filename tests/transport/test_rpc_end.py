"""How the end of a stream is told to Cap'n Proto: `eof_received` and then a read is a null pointer
in the library, and the whole process is gone."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.transport.support import Open, eventually, within
from tests.transport.test_rpc import probe, served
from transport import Connection, Stream
from transport.kj import KjTransport

pytestmark = pytest.mark.usefixtures("kj")


class Witness:
    """Passes everything on to pycapnp's protocol and remembers what it was told."""

    def __init__(self, protocol: Any, told: list[str]) -> None:
        self._protocol = protocol
        self._told = told

    def __getattr__(self, name: str) -> Any:
        self._told.append(name)
        return getattr(self._protocol, name)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    told: list[str] = []
    run = KjTransport.run

    async def watched(self: KjTransport) -> object:
        self._protocol = Witness(self._protocol, told)
        return await run(self)

    monkeypatch.setattr(KjTransport, "run", watched)
    return told


async def finish(connection: Connection, stream: Stream) -> None:
    await stream.finish()


async def cancel(connection: Connection, stream: Stream) -> None:
    stream.cancel()


async def close(connection: Connection, stream: Stream) -> None:
    await connection.close()


@pytest.mark.parametrize("end", [finish, cancel, close])
async def test_every_end_is_a_lost_connection(
    open_endpoint: Open, told: list[str], end: Callable[[Connection, Stream], Awaitable[None]]
) -> None:
    server, dialed = await served(open_endpoint)
    stream = await dialed.open_stream()
    await stream.write(b"\0\0\0\0\1\0\0\0")  # a message that has only begun
    await eventually(lambda: server.streams == 1)
    await within(dialed.ping())
    await end(dialed, stream)
    await eventually(lambda: server.ended == 1)
    assert "connection_lost" in told
    assert "eof_received" not in told


async def test_so_it_is_in_a_session_with_calls(open_endpoint: Open, told: list[str]) -> None:
    server, dialed = await served(open_endpoint)
    async with probe(dialed) as (service, _):
        hanging = asyncio.ensure_future(service.hang())
        assert (await within(service.echo(data=b"x"))).data == b"x"
        await eventually(lambda: server.probe.running == 1)
        hanging.cancel()
        await asyncio.gather(hanging, return_exceptions=True)
    await eventually(lambda: server.ended == 1)
    assert told.count("connection_lost") >= 2
    assert "eof_received" not in told
