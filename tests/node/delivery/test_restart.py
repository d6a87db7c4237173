"""A peer that was killed and comes back at its port: noticed by its stateless reset (RFC 9000,
10.3), dialled at once, and what waited is delivered. All else that could notice takes longer here
than a test waits; the peer itself dials nobody."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from schemas.addresses import Address
from tests.node.delivery.support import (
    LOOPBACK,
    QUICK,
    QUICK_TRANSPORT,
    FakeEngine,
    FakeNode,
    eventually,
    fake_node,
    within,
)

NEVER_S = 300.0
AT_ONCE_S = 5.0
ONLY_RESETS = dataclasses.replace(QUICK_TRANSPORT, idle_timeout_s=NEVER_S, keep_alive_s=NEVER_S)
PATIENT = dataclasses.replace(QUICK, doubt_s=NEVER_S, redial_first_s=NEVER_S)


@asynccontextmanager
async def alive(engine: FakeEngine, listen: Address = LOOPBACK) -> AsyncIterator[FakeNode]:
    async with fake_node(
        engine=engine, listen=listen, limits=PATIENT, transport_limits=ONLY_RESETS
    ) as node:
        yield node


async def killed(node: FakeNode, life: AsyncExitStack) -> Address:
    """Without a word on its connections, and without a socket; returns where it was."""
    was = Address(*node.address)
    for connection in node.delivery.endpoint.connections:
        connection.abort()
    await life.aclose()
    return was


@pytest.mark.parametrize("dialler", ["survivor", "victim"])
@pytest.mark.parametrize("posted", ["while it is away", "when it is back"])
async def test_a_killed_peer_that_is_back_gets_what_waits_at_once(
    kj: None, dialler: str, posted: str
) -> None:
    engine = FakeEngine()
    async with alive(FakeEngine()) as a, AsyncExitStack() as life:
        b = await life.enter_async_context(alive(engine))
        a.meets(b)
        if dialler == "victim":
            b.meets(a)
            assert await within(b.delivery.dialer.reach(a.engine.key, 5.0))
        assert [each.acked for each in await a.outcomes(a.post(engine))] == [True]
        link = a.delivery.links.get(engine.key)
        assert link is not None
        assert link.dialed == (dialler == "survivor")
        await within(link.ping())

        listen = await killed(b, life)
        parcels = a.post(engine, 3) if posted == "while it is away" else []
        assert a.delivery.links.get(engine.key) is link, "nothing was noticed yet"
        async with alive(engine, listen) as again:
            parcels = parcels or a.post(engine, 3)
            outcomes = a.engine.outcomes
            await eventually(
                lambda: all(outcomes[each] and outcomes[each][-1].acked for each in parcels),
                AT_ONCE_S,
            )
            assert a.delivery.endpoint.counters["reset-received"] == 1
            assert again.delivery.endpoint.counters["reset-sent"] >= 1
            await eventually(lambda: len(a.delivery.endpoint.connections) == 1)
