"""A peer that delivers faster than the disk takes: parcels wait in the network, not in memory."""

from __future__ import annotations

from node.engine import delivery_commands as d
from schemas.frames import Deliver
from schemas.ids import ParcelId
from schemas.parcels import Parcel
from tests.node.delivery.support import FakeNode, FakeNodes, eventually, raw_peer

FLOOD = 500


async def test_a_flood_waits_in_the_network(nodes: FakeNodes) -> None:
    node = await nodes()
    await _flood(node, size=100, inside_at_once=node.delivery.limits.arrivals_at_once)


async def test_a_large_parcel_takes_the_place_of_several(nodes: FakeNodes) -> None:
    """Or the small ones' number times the largest size would be held in memory."""
    node = await nodes(arrivals_at_once=60, arrival_bytes=200)
    await _flood(node, size=500, inside_at_once=20)


async def _flood(node: FakeNode, *, size: int, inside_at_once: int) -> None:
    async with raw_peer() as peer:
        link = await peer.greet(node)
        await link.hear()
        await eventually(lambda: node.engine.count(d.Retry))  # the link is served from here on
        inside = node.delivery.links.get(peer.engine.key)
        assert inside is not None
        node.engine.gate.clear()  # the disk stands still
        for number in range(FLOOD):
            parcel = ParcelId(number.to_bytes(16, "big"))
            await link.say(Deliver(Parcel(parcel, node.engine.key, 2**40, b"\1" * size)))
        await eventually(lambda: inside._arriving >= inside_at_once)
        for _ in range(10):  # and all that comes has come
            await link.connection.ping()
        assert inside._arriving == inside_at_once
        node.engine.gate.set()
        await eventually(lambda: node.engine.count(d.Arrived) == FLOOD)
