"""Cap'n Proto has no flow limit of its own: each of our bounds alone, with the other one off."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace

import pytest

from schemas.errors import Fault
from tests.transport.support import ALPN, QUICK, Open, eventually, within
from tests.transport.test_rpc import Probe, probe
from transport import Connection, ConnectionLost, RpcSession, serve_rpc

pytestmark = pytest.mark.usefixtures("kj")

BOUND = 4
FLOOD = 2_000
BOUNDED = replace(QUICK, rpc_calls_in_flight=BOUND)
UNBOUNDED = replace(QUICK, rpc_calls_in_flight=1_000_000)


async def served_by(open_endpoint: Open, session: RpcSession, server: Probe) -> Connection:
    async def handler(connection: Connection) -> None:
        try:
            await serve_rpc(await connection.accept_stream(), server, session=session)
        except ConnectionLost:
            return

    endpoint, client = await open_endpoint(handler), await open_endpoint()
    return await within(client.dial([endpoint.address], expected=endpoint.device, alpn=ALPN))


async def test_a_flood_of_calls_stays_at_the_caller(open_endpoint: Open) -> None:
    """Also those that only wait for their turn would cost the server memory."""
    server, session = Probe(), RpcSession(BOUNDED, Counter())
    dialed = await served_by(open_endpoint, session, server)
    async with probe(dialed, UNBOUNDED) as (service, _):
        calls = [asyncio.ensure_future(service.hang()) for _ in range(FLOOD)]
        await eventually(lambda: server.running == BOUND)
        for _ in range(20):  # all that comes has come
            await within(dialed.ping())
        assert session.tables.methods < FLOOD / 4, "what one read brought, and no more"
        server.release.set()
        await within(asyncio.gather(*calls), 20)
        assert server.most == BOUND
    await eventually(lambda: session.tables.methods == 0)


async def test_our_own_calls_wait_here(open_endpoint: Open) -> None:
    """A server that has no bound must not be flooded by an honest client."""
    server, session = Probe(), RpcSession(UNBOUNDED, Counter())
    dialed = await served_by(open_endpoint, session, server)
    async with probe(dialed, BOUNDED) as (service, _):
        calls = [asyncio.ensure_future(service.hang()) for _ in range(5 * BOUND)]
        await eventually(lambda: server.running == BOUND)
        await within(dialed.ping())
        assert server.most == BOUND
        server.release.set()
        await within(asyncio.gather(*calls))
        assert server.most == BOUND


async def test_waiting_for_a_place_counts_for_the_deadline(open_endpoint: Open) -> None:
    server, session = Probe(), RpcSession(UNBOUNDED, Counter())
    dialed = await served_by(open_endpoint, session, server)
    async with probe(dialed, replace(BOUNDED, rpc_call_deadline_s=0.3)) as (service, _):
        calls = [asyncio.ensure_future(service.hang()) for _ in range(3 * BOUND)]
        ends = await within(asyncio.gather(*calls, return_exceptions=True))
        assert {end.code for end in ends if isinstance(end, Fault)} == {"rpc-deadline"}
        assert len(ends) == 3 * BOUND
        assert (await within(service.echo(data=b"room"))).data == b"room"
