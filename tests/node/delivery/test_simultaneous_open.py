"""Both nodes dial at the same moment with parcels under way both ways, again and again: one link is
left, nothing is lost and nothing comes twice."""

from __future__ import annotations

import asyncio
import random
from collections import Counter

from node.delivery.link import Link
from schemas.ids import ParcelId
from tests.node.delivery.support import FakeNode, FakeNodes, eventually, within

ROUNDS = 50
PARCELS = 20  # each way and round; more than one write, fewer than a window
APART_S = 0.004  # at most: a handshake on loopback takes about that long


async def parted(a: FakeNode, b: FakeNode) -> None:
    for node in (a, b):
        for connection in node.delivery.endpoint.connections:
            connection.close_now()
    await eventually(
        lambda: not (a.delivery.endpoint.connections + b.delivery.endpoint.connections)
    )
    await eventually(lambda: not (a.engine.linked[b.engine.key] or b.engine.linked[a.engine.key]))


async def speaks(node: FakeNode, other: FakeNode, pauses: tuple[float, float]) -> list[ParcelId]:
    """Half before the other one dials, perhaps; half while there may be two links."""
    await asyncio.sleep(pauses[0])
    first = node.post(other.engine, PARCELS // 2)
    await asyncio.sleep(pauses[1])
    return first + node.post(other.engine, PARCELS - PARCELS // 2)


def only_link(node: FakeNode, other: FakeNode) -> Link | None:
    if len(node.delivery.endpoint.connections) != 1:
        return None
    return node.delivery.links.get(other.engine.key)


async def test_fifty_simultaneous_opens(nodes: FakeNodes) -> None:
    a, b = await nodes(retire_quiet_s=0.03), await nodes(retire_quiet_s=0.03)
    a.meets(b)
    b.meets(a)
    chance = random.Random(7)
    there: list[ParcelId] = []
    back: list[ParcelId] = []
    raced = 0
    for turn in range(ROUNDS):
        retired = a.delivery.counters["link-retired"] + b.delivery.counters["link-retired"]
        moments = [chance.choice((0.0, chance.uniform(0, APART_S))) for _ in range(4)]
        new = await asyncio.gather(
            speaks(a, b, (moments[0], moments[1])), speaks(b, a, (moments[2], moments[3]))
        )
        there += new[0]
        back += new[1]
        outcomes = await a.outcomes(new[0]) + await b.outcomes(new[1])
        assert all(each.acked for each in outcomes), f"round {turn}"
        await eventually(lambda: only_link(a, b) and only_link(b, a))
        mine, theirs = only_link(a, b), only_link(b, a)
        assert mine is not None
        assert theirs is not None
        assert mine.dialed != theirs.dialed, "the two ends of one connection"
        if a.delivery.counters["link-retired"] + b.delivery.counters["link-retired"] > retired:
            raced += 1
            assert mine.dialed == (a.engine.key < b.engine.key)
        await within(mine.ping())
        await within(theirs.ping())
        await parted(a, b)
    assert raced > ROUNDS / 4, "they did dial at the same moment"
    for node, parcels in ((b, there), (a, back)):
        came = Counter(arrived.parcel.id for arrived in node.engine.arrived)
        assert came == dict.fromkeys(parcels, 1), "each once"
    for node, parcels in ((a, there), (b, back)):
        assert {len(node.engine.outcomes[each]) for each in parcels} == {1}
        assert (
            +Counter({k: n for k, n in node.delivery.counters.items() if k != "link-retired"}) == {}
        )
