"""Links between two nodes: pipelining, acks after the commit, one outcome for each parcel."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from node.engine.delivery_commands import (
    Arrived,
    LinkUp,
    Outcome,
    ReceiveBundle,
)
from node.engine.values import Accepted, Deferred, Rejected, SummaryReady, Verdict
from schemas.errors import Refused
from schemas.records import Signed
from tests.node.delivery.support import (
    FakeNodes,
    eventually,
    fake_node,
    linked,
    raw_peer,
    within,
)
from transport import TransportLimits

SUMMARY = Signed(b"payload", bytes(32), bytes(64))


async def test_parcels_arrive_in_order_and_each_gets_its_ack(nodes: FakeNodes) -> None:
    """More parcels than any window: all arrive, sealed to the reader, each acked once."""
    a, b = await nodes(), await nodes()
    a.meets(b)
    parcels = a.post(b.engine, 300)
    outcomes = await a.outcomes(parcels)
    assert outcomes == [Outcome(parcel, acked=True) for parcel in parcels]
    assert [arrived.parcel.id for arrived in b.engine.arrived] == parcels
    assert {arrived.path for arrived in b.engine.arrived} == {"direct"}
    assert b.engine.open(b.engine.arrived[0]).startswith(b"body 1 ")
    assert all(len(each) == 1 for each in a.engine.outcomes.values())
    assert not a.delivery.counters, "nothing was dropped"


async def test_both_sides_deliver_over_one_link(nodes: FakeNodes) -> None:
    a, b = await nodes(), await nodes()
    await linked(a, b)
    there, back = a.post(b.engine, 40), b.post(a.engine, 40)
    await a.outcomes(there)
    await b.outcomes(back)
    assert len(a.delivery.endpoint.connections) == 1
    assert len(b.delivery.endpoint.connections) == 1


async def test_large_parcels_pass(nodes: FakeNodes) -> None:
    """Half a MiB each: above what a stream buffers, and above the limit before the hello."""
    a, b = await nodes(), await nodes()
    a.meets(b)
    parcels = a.post(b.engine, 8, size=400_000)
    assert all(outcome.acked for outcome in await a.outcomes(parcels))


async def test_no_ack_before_the_recipients_commit(nodes: FakeNodes) -> None:
    """An ack for something that is not on disk would lose the message in a power cut."""
    a, b = await nodes(), await nodes()
    await linked(a, b)
    asked = b.engine.count(Arrived)
    b.engine.gate.clear()
    parcels = a.post(b.engine, 3)
    await eventually(lambda: b.engine.count(Arrived) > asked)
    await asyncio.sleep(0.1)  # an ack would need a millisecond
    assert not any(a.engine.outcomes[parcel] for parcel in parcels)
    b.engine.gate.set()
    assert all(outcome.acked for outcome in await a.outcomes(parcels))


async def test_deferred_and_refused_parcels_say_so(nodes: FakeNodes) -> None:
    a, b = await nodes(), await nodes()
    a.meets(b)
    verdicts: Iterator[Verdict] = iter([Deferred(7.5), Rejected("cannot-open"), Accepted()])
    b.engine.verdict = lambda arrived: next(verdicts)
    later, never, good = await a.outcomes(a.post(b.engine, 3))
    assert later.retry_after_s == 7.5
    assert not later.acked
    assert never.refused == "cannot-open"
    assert good.acked


async def test_a_failing_engine_withholds_the_ack(nodes: FakeNodes) -> None:
    """A full disk at the recipient must not look like a delivery, nor like a refusal."""
    a, b = await nodes(), await nodes()
    a.meets(b)
    b.engine.refuse[Arrived] = Refused("disk-full", "full")
    [outcome] = await a.outcomes(a.post(b.engine))
    assert not outcome.acked
    assert outcome.refused is None
    assert outcome.retry_after_s


async def test_a_lost_connection_gives_each_parcel_one_outcome(nodes: FakeNodes) -> None:
    """A parcel without an outcome would never be sent again; one with two might be lost."""
    a, b = await nodes(), await nodes()
    await linked(a, b)
    b.engine.gate.clear()
    parcels = a.post(b.engine, 100)
    await eventually(lambda: len(a.engine.out) >= 64)
    for connection in b.delivery.endpoint.connections:
        connection.close_now()
    outcomes = await a.outcomes([p for p in parcels if p in a.engine.out])
    assert all(outcome.reason == "connection-lost" for outcome in outcomes)
    b.engine.gate.set()
    again = [
        p for p in parcels if not a.engine.outcomes[p][-1:] or not a.engine.outcomes[p][-1].acked
    ]
    assert again


async def test_a_stopping_node_gives_every_taken_parcel_an_outcome(nodes: FakeNodes) -> None:
    """`fake_node` checks at its end that no parcel is out."""
    b = await nodes()
    a = await nodes()
    await linked(a, b)
    b.engine.gate.clear()
    a.post(b.engine, 100)
    await eventually(lambda: len(a.engine.out) >= 64)
    await within(a.delivery.couriers.close())
    await within(a.delivery.desk.settled())
    assert not a.engine.out
    b.engine.gate.set()


async def test_a_link_without_acks_is_ended(nodes: FakeNodes) -> None:
    """A link that swallows everything must not hold messages back from the relay."""
    a, b = await nodes(ack_deadline_s=0.2), await nodes()
    await linked(a, b)
    b.engine.gate.clear()
    [outcome] = await a.outcomes(a.post(b.engine))
    assert outcome.reason == "not-acknowledged"
    assert a.delivery.counters["link-stalled"] == 1
    b.engine.gate.set()


async def test_a_killed_peer_is_noticed_long_before_the_idle_timeout(nodes: FakeNodes) -> None:
    """Else its messages wait half a minute for a link that only looks alive."""
    node = await nodes(transport_limits=TransportLimits())
    async with raw_peer() as peer:
        link = await peer.greet(node)
        await link.hear()
        await eventually(lambda: node.delivery.links.get(peer.engine.key))
        asyncio.get_running_loop().remove_reader(peer.endpoint._sock)  # deaf
        peer.endpoint.send = lambda *_: True  # type: ignore[method-assign]  # and mute
        [parcel] = node.post(peer.engine)
        await node.outcomes([parcel], 3.0)
        assert node.engine.outcomes[parcel][0].reason == "connection-lost"
    assert node.delivery.counters["link-dead"] == 1


async def test_a_slow_peer_is_not_a_dead_one(nodes: FakeNodes) -> None:
    """Its disk may be busy: as long as its transport answers, the link stays."""
    a, b = await nodes(doubt_s=0.1, proof_s=0.2), await nodes()
    await linked(a, b)
    b.engine.gate.clear()
    parcels = a.post(b.engine)
    await asyncio.sleep(0.6)
    b.engine.gate.set()
    [outcome] = await a.outcomes(parcels)
    assert outcome.acked
    assert not a.delivery.counters


async def test_summaries_travel_on_the_link_and_are_dropped_without_one(nodes: FakeNodes) -> None:
    a, b = await nodes(), await nodes()
    a.delivery.on_effect(SummaryReady(b.engine.key, SUMMARY.encode()))
    assert a.delivery.counters["summary-dropped"] == 1
    await linked(a, b)
    a.delivery.on_effect(SummaryReady(b.engine.key, SUMMARY.encode()))
    await eventually(lambda: b.engine.summaries == [(a.engine.key, SUMMARY)])


async def test_what_the_engine_sends_at_link_up_finds_the_link(nodes: FakeNodes) -> None:
    """Summaries at every meeting are how gaps are noticed: the first must not be dropped."""
    a, b = await nodes(), await nodes()
    original = b.engine._answer

    def answer(command: object, effects: list[object]) -> object:
        if isinstance(command, LinkUp):
            effects.append(SummaryReady(command.device, SUMMARY.encode()))
        return original(command, effects)  # type: ignore[arg-type]

    b.engine._answer = answer  # type: ignore[method-assign, assignment]
    await linked(a, b)
    await eventually(lambda: a.engine.summaries)


async def test_the_engine_hears_of_links_and_bundles_are_fetched(nodes: FakeNodes) -> None:
    a, b = await nodes(), await nodes()
    await linked(a, b)
    await eventually(lambda: a.engine.linked[b.engine.key] and b.engine.linked[a.engine.key])
    await eventually(lambda: b.engine.identity.public in a.engine.bundles)
    await eventually(lambda: a.engine.identity.public in b.engine.bundles)
    assert a.engine.count(ReceiveBundle) == 1
    for connection in b.delivery.endpoint.connections:
        connection.close_now()
    await eventually(lambda: not a.engine.linked[b.engine.key])
    await eventually(lambda: not b.engine.linked[a.engine.key])


async def test_a_ping_goes_through_both_applications(nodes: FakeNodes) -> None:
    a, b = await nodes(), await nodes()
    await linked(a, b)
    link = a.delivery.links.get(b.engine.key)
    assert link is not None
    assert 0 < await within(link.ping()) < 1


@pytest.mark.parametrize("round_", range(3))
async def test_simultaneous_open_leaves_one_link_and_loses_nothing(
    nodes: FakeNodes, round_: int
) -> None:
    """Two links to one peer would double traffic, and an ack on a dropped one would be lost."""
    a, b = await nodes(), await nodes()
    a.meets(b)
    b.meets(a)
    there, back = a.post(b.engine, 150), b.post(a.engine, 150)
    assert all(o.acked for o in await a.outcomes(there))
    assert all(o.acked for o in await b.outcomes(back))
    assert all(len(a.engine.outcomes[p]) == 1 for p in there), "no ack was lost on the way"
    assert all(len(b.engine.outcomes[p]) == 1 for p in back)
    await eventually(
        lambda: len(a.delivery.endpoint.connections) == len(b.delivery.endpoint.connections) == 1
    )
    survivor = a.delivery.links.get(b.engine.key)
    assert survivor is not None
    if "link-retired" in a.delivery.counters:
        assert survivor.dialed == (a.engine.key < b.engine.key)
    assert a.engine.linked[b.engine.key]
    assert b.engine.linked[a.engine.key]


async def test_a_peer_that_comes_back_replaces_its_dead_link(nodes: FakeNodes) -> None:
    """A killed peer says nothing; its new link must not be refused for the old one's sake."""
    b = await nodes()
    engine = b.engine
    async with raw_peer() as peer:
        link = await peer.greet(b)
        await link.hear()
        await eventually(lambda: b.delivery.links.get(peer.engine.key))
        link.connection.abort()  # as a crash would
        async with fake_node(engine=peer.engine) as again:
            again.meets(b)
            parcels = again.post(engine, 5)
            assert all(outcome.acked for outcome in await again.outcomes(parcels))
            await eventually(lambda: b.delivery.links.get(peer.engine.key))
            b.engine.known[peer.engine.key].hints = (str(again.address),)
            back = b.post(peer.engine, 5)
            assert all(outcome.acked for outcome in await b.outcomes(back))
