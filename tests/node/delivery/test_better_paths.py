"""Links that move: to the LAN where one leads there, and after a machine that changed networks."""

from __future__ import annotations

import asyncio
import ipaddress
from collections import Counter

import pytest

from discovery.scope import OwnNetworks
from node.engine import values as v
from schemas.addresses import Address
from schemas.ids import ParcelId
from tests.node.delivery.support import FakeEngine, FakeNode, FakeNodes, Known, eventually, within

FAR, NEAR = "127.0.0.1", "[::1]"  # one socket, two ways
ANYWHERE = Address("::", 0)
PARCELS = 300


def near_only() -> OwnNetworks:
    return OwnNetworks((ipaddress.ip_network("::1/128"),))


def ordered(*, lower_dials: bool) -> tuple[FakeEngine, FakeEngine]:
    """Two engines; the first is to dial."""
    lower, higher = sorted((FakeEngine(), FakeEngine()), key=lambda engine: engine.key)
    return (lower, higher) if lower_dials else (higher, lower)


def all_once(node: FakeNode, parcels: list[ParcelId]) -> bool:
    return Counter(arrived.parcel.id for arrived in node.engine.arrived) == dict.fromkeys(
        parcels, 1
    )


async def one_connection(*nodes: FakeNode) -> None:
    await eventually(lambda: {len(n.delivery.endpoint.connections) for n in nodes} == {1})


async def moved_to_one(a: FakeNode, b: FakeNode) -> None:
    """Parcels may all be there before the other link is: it replaces the first one all the same."""

    def generations() -> set[int]:
        ends = (a.delivery.links.get(b.engine.key), b.delivery.links.get(a.engine.key))
        return {end.generation for end in ends if end is not None}

    await eventually(lambda: generations() == {1})
    await one_connection(a, b)
    assert generations() == {1}


async def linked(a: FakeNode, b: FakeNode) -> None:
    await eventually(
        lambda: a.delivery.links.get(b.engine.key) and b.delivery.links.get(a.engine.key)
    )


@pytest.mark.parametrize("lower_dials", [True, False])
@pytest.mark.parametrize("accepted_improves", [True, False])
async def test_a_lan_path_takes_over_with_parcels_under_way(
    nodes: FakeNodes, lower_dials: bool, accepted_improves: bool
) -> None:
    """Whoever finds the way to the LAN, and whoever dialled before."""
    events: list[v.Event] = []
    first, second = ordered(lower_dials=lower_dials)
    a = await nodes(engine=first, listen=ANYWHERE, networks=near_only, announce=events.append)
    b = await nodes(engine=second, listen=ANYWHERE, networks=near_only, announce=events.append)
    a.knows(b.engine, at=f"{FAR}:{b.address.port}")
    b.knows(a.engine)
    await within(a.delivery.dialer.reach(b.engine.key, 5.0))
    await linked(a, b)
    there, back = a.post(b.engine, PARCELS), b.post(a.engine, PARCELS)

    mover, other = (b, a) if accepted_improves else (a, b)
    mover.engine.known[other.engine.key] = Known(
        other.engine.identity.public, (f"{NEAR}:{other.address.port}",)
    )
    mover.delivery.better_paths.news(other.engine.key)
    there += a.post(b.engine, PARCELS)

    def moved() -> bool:
        link = mover.delivery.links.get(other.engine.key)
        return link is not None and link.connection.remote.host == "::1"

    await eventually(moved)
    outcomes = await a.outcomes(there) + await b.outcomes(back)
    assert all(each.acked for each in outcomes)
    assert all_once(b, there)
    assert all_once(a, back)
    await one_connection(a, b)
    assert moved(), "the better one of the two is the one that stays"
    ends = [n.delivery.links.get(m.engine.key) for n, m in ((a, b), (b, a))]
    assert {end.generation for end in ends if end is not None} == {1}
    kinds = [event.fields.get("kind") for event in events if event.kind == "path-changed"]
    assert kinds[0] != "lan"
    assert kinds[-1] == "lan"


async def test_two_that_find_the_lan_at_once_agree_on_one_link(nodes: FakeNodes) -> None:
    for _ in range(10):
        a = await nodes(listen=ANYWHERE, networks=near_only)
        b = await nodes(listen=ANYWHERE, networks=near_only)
        a.knows(b.engine, at=f"{FAR}:{b.address.port}")
        await within(a.delivery.dialer.reach(b.engine.key, 5.0))
        await linked(a, b)
        a.knows(b.engine, at=f"{NEAR}:{b.address.port}")
        b.knows(a.engine, at=f"{NEAR}:{a.address.port}")
        there, back = a.post(b.engine, 50), b.post(a.engine, 50)
        a.delivery.better_paths.news(b.engine.key)
        b.delivery.better_paths.news(a.engine.key)
        outcomes = await a.outcomes(there) + await b.outcomes(back)
        assert all(each.acked for each in outcomes)
        await moved_to_one(a, b)
        link = a.delivery.links.get(b.engine.key)
        assert link is not None
        await within(link.ping())
        assert all_once(b, there)
        assert all_once(a, back)


@pytest.mark.parametrize("mover_dialed", [True, False])
async def test_whoever_moved_is_followed_or_dials_anew(
    nodes: FakeNodes, mover_dialed: bool
) -> None:
    a, b = await nodes(), await nodes()
    a.meets(b)
    b.meets(a)
    await within(a.delivery.dialer.reach(b.engine.key, 5.0))
    await linked(a, b)
    before = a.delivery.links.get(b.engine.key)
    assert before is not None
    there, back = a.post(b.engine, PARCELS), b.post(a.engine, PARCELS)
    (a if mover_dialed else b).delivery.network_changed()
    there += a.post(b.engine, PARCELS)
    outcomes = await a.outcomes(there) + await b.outcomes(back)
    assert all(each.acked for each in outcomes)
    assert all_once(b, there)
    assert all_once(a, back)
    if not mover_dialed:
        await eventually(lambda: a.delivery.links.get(b.engine.key) is not before)
        after = a.delivery.links.get(b.engine.key)
        assert after is not None
        assert not after.dialed, "who moved has dialled"
    else:
        await within(before.ping())


@pytest.mark.parametrize("mover_dialed", [True, False])
async def test_a_peer_that_is_gone_when_we_move_does_not_look_linked(
    nodes: FakeNodes, mover_dialed: bool
) -> None:
    """Nor does one that only a meeting reaches from where we are now."""
    a, b = await nodes(moved_proof_s=0.2), await nodes()
    first, other = (a, b) if mover_dialed else (b, a)
    first.meets(other)
    await within(first.delivery.dialer.reach(other.engine.key, 5.0))
    await linked(a, b)
    asyncio.get_running_loop().remove_reader(b.delivery.endpoint._sock)  # it hears nothing more
    a.delivery.network_changed()
    await eventually(lambda: a.delivery.links.get(b.engine.key) is None)
    assert a.delivery.counters["link-lost-in-moving"] == 1
    await asyncio.sleep(0)
