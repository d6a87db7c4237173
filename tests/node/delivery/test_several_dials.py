"""Several dials of one device at once, as of its address and of a meeting, by one side or by both:
one link, and whatever is under way on another one is finished there."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest

from node.delivery.handshake import Greeting, shake_hands
from node.delivery.link import Link
from node.delivery.requests import ask_key_package
from schemas.errors import Fault
from schemas.frames import P2P_ALPN
from tests.node.delivery.support import (
    FakeEngine,
    FakeNode,
    FakeNodes,
    eventually,
    raw_peer,
    within,
)
from transport import Connection

ROUNDS = 25
SUITE, REQUEST = 1, b"which-of-several"


async def dialled(node: FakeNode, other: FakeNode) -> Connection:
    return await within(
        node.delivery.endpoint.dial([other.address], expected=other.engine.key, alpn=P2P_ALPN)
    )


async def one_connection(*nodes: FakeNode) -> None:
    await eventually(lambda: all(len(n.delivery.endpoint.connections) == 1 for n in nodes))


async def link_of(node: FakeNode, other: FakeNode) -> Link:
    await eventually(lambda: node.delivery.links.get(other.engine.key))
    link = node.delivery.links.get(other.engine.key)
    assert link is not None
    return link


def held(link: Link, monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """What this end writes on its link, as answers, waits for the event."""
    go, write = asyncio.Event(), link._write_payloads

    async def wait_and_write(payloads: Sequence[bytes]) -> None:
        await go.wait()
        await write(payloads)

    monkeypatch.setattr(link, "_write_payloads", wait_and_write)
    return go


async def asks(link: Link, node: FakeNode) -> bytes:
    return await within(ask_key_package(link, SUITE, REQUEST, node.delivery.limits))


async def test_a_second_dial_of_one_side_disturbs_nothing_on_the_first(
    nodes: FakeNodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the peer, a second hello of the same side says that this side has lost the first link."""
    a, b = await nodes(), await nodes()
    first, second = await dialled(a, b), await dialled(a, b)
    link = await within(a.delivery.links.adopt(first))
    back = await link_of(b, a)
    answer = held(link, monkeypatch)
    parcels = b.post(a.engine, 3)
    await eventually(lambda: len(a.engine.arrived) == 3)
    ping, request = asyncio.ensure_future(back.ping()), asyncio.ensure_future(asks(back, b))
    again = await within(a.delivery.links.adopt(second))
    await asyncio.sleep(0.1)
    answer.set()
    await within(ping)
    assert (await request).endswith(REQUEST)
    assert all(each.acked for each in await b.outcomes(parcels))
    assert {len(b.engine.outcomes[each]) for each in parcels} == {1}, "none was lost on the way"
    assert again is link
    await one_connection(a, b)
    assert b.delivery.links.get(a.engine.key) is back
    assert not a.delivery.counters + b.delivery.counters


async def test_the_second_dial_makes_the_link_when_the_first_one_fails(nodes: FakeNodes) -> None:
    a, b = await nodes(), await nodes()
    first, second = await dialled(a, b), await dialled(a, b)
    b.engine.gate.clear()  # it has not said hello
    failing, waiting = (
        asyncio.ensure_future(a.delivery.links.adopt(each)) for each in (first, second)
    )
    await asyncio.sleep(0.05)
    first.close_now()
    with pytest.raises(Fault):
        await within(failing)
    b.engine.gate.set()
    link = await within(waiting)
    assert link.connection is second
    await within(link.ping())
    await one_connection(a, b)


async def test_a_dial_that_hangs_does_not_take_the_next_one_with_it(
    nodes: FakeNodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The peer's deadline for a hello runs for the second connection while that waits its turn."""
    options = {"hello_deadline_s": 1.5, "dial_turn_s": 0.1}
    a, b = await nodes(**options), await nodes(**options)
    first, second = await dialled(a, b), await dialled(a, b)
    monkeypatch.setattr(first, "open_stream", asyncio.Event().wait)
    hanging, waiting = (
        asyncio.ensure_future(a.delivery.links.adopt(each)) for each in (first, second)
    )
    link = await within(waiting)
    assert link.connection is second
    with pytest.raises(Fault, match="did not say hello"):
        await within(hanging)
    await one_connection(a, b)
    assert a.delivery.links.get(b.engine.key) is link
    assert all(each.acked for each in await a.outcomes(a.post(b.engine, 3)))


async def test_no_second_link_where_the_peer_has_made_one_meanwhile(nodes: FakeNodes) -> None:
    a, b = await nodes(), await nodes()
    ours = await dialled(a, b)
    await within(b.delivery.links.adopt(await dialled(b, a)))
    theirs = await link_of(a, b)
    assert await within(a.delivery.links.adopt(ours)) is theirs
    await one_connection(a, b)
    assert not a.delivery.counters + b.delivery.counters


async def test_both_dial_twice_at_once(nodes: FakeNodes) -> None:
    """Whatever is asked or sent on a link that goes is answered on it: nobody sees it go."""
    options = {"retire_quiet_s": 0.03, "request_burst": 2 * ROUNDS}
    a, b = await nodes(**options), await nodes(**options)

    async def speaks(node: FakeNode, other: FakeNode) -> None:
        connections = [await dialled(node, other), await dialled(node, other)]
        adopted = [asyncio.ensure_future(node.delivery.links.adopt(each)) for each in connections]
        link = await link_of(node, other)
        parcels = node.post(other.engine, 20)
        await asyncio.gather(link.ping(), asks(link, node), *adopted)
        assert all(each.acked for each in await node.outcomes(parcels))
        assert {len(node.engine.outcomes[each]) for each in parcels} == {1}

    for _ in range(ROUNDS):
        await within(asyncio.gather(speaks(a, b), speaks(b, a)))
        await one_connection(a, b)
        mine, theirs = await link_of(a, b), await link_of(b, a)
        assert mine.dialed != theirs.dialed, "the two ends of one connection"
        mine.close("the round is over")
        await eventually(
            lambda: not (a.engine.linked[b.engine.key] or b.engine.linked[a.engine.key])
        )
    for node, other in ((a, b), (b, a)):
        came = Counter(arrived.parcel.id for arrived in node.engine.arrived)
        assert came == dict.fromkeys(other.engine.outcomes, 1), "each once"
        assert set(node.delivery.counters) <= {"link-retired"}


async def test_a_link_stays_until_the_peer_uses_the_one_that_survives(
    nodes: FakeNodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long that takes: the hello of the better one was lost on the way, perhaps."""
    lower, higher = sorted((FakeEngine(), FakeEngine()), key=lambda engine: engine.key)
    a, b = await nodes(engine=higher, retire_quiet_s=0.05), await nodes(engine=lower)
    go = asyncio.Event()

    async def late(connection: Connection, *args: Any, **options: Any) -> Greeting:
        greeting = await shake_hands(connection, *args, **options)
        if connection is theirs:
            await go.wait()
        elif connection.peer == b.engine.key and not connection.dialed:
            await link_of(a, b)  # by then ours
        return greeting

    monkeypatch.setattr("node.delivery.links.shake_hands", late)
    ours, theirs = await dialled(a, b), await dialled(b, a)
    adopting = [
        asyncio.ensure_future(a.delivery.links.adopt(ours)),
        asyncio.ensure_future(b.delivery.links.adopt(theirs)),
    ]
    await eventually(lambda: a.delivery.counters["link-retired"] == 1)
    assert not (await link_of(a, b)).dialed
    old = await link_of(b, a)
    await asyncio.sleep(0.4)
    assert b.delivery.links.get(a.engine.key) is old
    await within(old.ping())
    assert all(each.acked for each in await b.outcomes(b.post(a.engine, 3)))
    go.set()
    await within(asyncio.gather(*adopting))
    await one_connection(a, b)
    assert (await link_of(b, a)).connection is theirs


@pytest.mark.parametrize("asker_dialed", [True, False])
async def test_a_link_that_goes_is_kept_for_what_is_asked_on_it(
    nodes: FakeNodes, asker_dialed: bool
) -> None:
    """The peer is slower than the quiet time after which a link that is not needed is closed."""
    a, b = await nodes(retire_quiet_s=0.05), await nodes(retire_quiet_s=0.05)
    old = await within(a.delivery.links.adopt(await dialled(a, b)))
    there = await link_of(b, a)
    asker, asked, link = (a, b, old) if asker_dialed else (b, a, there)
    await within(a.delivery.links.adopt(await dialled(a, b), instead_of=old))
    asked.engine.gate.clear()
    request = asyncio.ensure_future(asks(link, asker))
    await asyncio.sleep(0.4)
    assert not request.done()
    asked.engine.gate.set()
    assert (await request).endswith(REQUEST)
    await one_connection(a, b)


async def test_a_link_that_goes_is_kept_for_a_slow_ping(
    nodes: FakeNodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = await nodes(retire_quiet_s=0.05), await nodes(retire_quiet_s=0.05)
    old = await within(a.delivery.links.adopt(await dialled(a, b)))
    answer = held(await link_of(b, a), monkeypatch)
    ping = asyncio.ensure_future(old.ping())
    await within(a.delivery.links.adopt(await dialled(a, b), instead_of=old))
    await asyncio.sleep(0.4)
    answer.set()
    assert await within(ping) >= 0.4
    await one_connection(a, b)


async def test_the_engine_hears_that_a_link_ended_beside_a_connection_that_never_greeted(
    nodes: FakeNodes,
) -> None:
    node = await nodes()
    async with raw_peer() as peer:
        link = await peer.greet(node)
        await link.hear()
        await eventually(lambda: node.engine.linked[peer.engine.key])
        silent = await peer.dial(node)
        await eventually(lambda: len(node.delivery.endpoint.connections) == 2)
        link.connection.close_now()
        await eventually(lambda: len(node.delivery.endpoint.connections) == 1)
        silent.close_now()
        await eventually(lambda: not node.engine.linked[peer.engine.key], 3.0)
