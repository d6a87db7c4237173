"""A node that takes parcels and never has them: bounded here, its relay gets them, others first."""

from __future__ import annotations

import asyncio

import pytest

from node.delivery.link import Link
from node.engine.delivery_commands import Arrived
from node.engine.values import Accepted, Deferred, Verdict
from schemas.ids import DeviceKey, ParcelId
from tests.node.delivery.support import FakeNode, FakeNodes, Relays, eventually

FLOOD = 600


@pytest.fixture
def mute(monkeypatch: pytest.MonkeyPatch) -> set[DeviceKey]:
    """Nodes that greet, answer pings and read everything, and acknowledge no parcel."""
    devices: set[DeviceKey] = set()
    write = Link._write_answers

    async def say_nothing(link: Link) -> None:
        if link._own in devices:
            link._answers.clear()
        await write(link)

    monkeypatch.setattr(Link, "_write_answers", say_nothing)
    return devices


def held(node: FakeNode, parcels: list[ParcelId]) -> bool:
    """The relay has each of them."""
    return all(any(o.held for o in node.engine.outcomes[parcel]) for parcel in parcels)


def acked(node: FakeNode, parcels: list[ParcelId]) -> bool:
    return all(any(o.acked for o in node.engine.outcomes[parcel]) for parcel in parcels)


async def test_what_nobody_acknowledges_is_left_at_the_relay(
    nodes: FakeNodes, relays: Relays, mute: set[DeviceKey]
) -> None:
    """Link after link would swallow it, each for the whole deadline; were we switched off then,
    nobody would have it."""
    relay = await relays()
    ada, bob, cy = await nodes(ack_deadline_s=0.3), await nodes(), await nodes()
    mute.add(bob.engine.key)
    ada.knows(bob.engine, at=str(bob.address), relays=[str(relay.address)])
    ada.meets(cy)
    swallowed = ada.post(bob.engine, FLOOD)
    await eventually(lambda: ada.delivery.links.get(bob.engine.key))
    link = ada.delivery.links.get(bob.engine.key)
    assert link is not None
    await eventually(lambda: link._unacked)
    # Meanwhile: what it can make us hold is a window, and others do not wait.
    chat = ada.post(cy.engine)
    await eventually(lambda: acked(ada, chat), 2)
    assert len(link._unacked) <= ada.delivery.limits.window
    assert not held(ada, swallowed[:1]), "it was swallowed first"
    await eventually(lambda: held(ada, swallowed), 8)
    assert ada.delivery.counters["link-stalled"] <= 2, "one link was enough to know"
    first = ada.engine.outcomes[swallowed[0]][0]
    assert first.reason == "not-acknowledged"
    assert all(len(ada.engine.outcomes[p]) <= 3 for p in swallowed), "no busy loop"


async def test_what_is_always_deferred_is_left_at_the_relay(
    nodes: FakeNodes, relays: Relays
) -> None:
    """Its disk may be full for days; ours may be switched off tonight."""
    relay = await relays()
    ada, bob = await nodes(), await nodes()
    bob.engine.verdict = lambda arrived: Deferred(0.0)
    ada.knows(bob.engine, at=str(bob.address), relays=[str(relay.address)])
    parcels = ada.post(bob.engine)
    await eventually(lambda: held(ada, parcels), 5)
    assert ada.engine.outcomes[parcels[0]][0].reason == "deferred"
    assert len(ada.engine.outcomes[parcels[0]]) <= 1 + ada.delivery.limits.deferrals_borne


async def test_one_deferral_among_acks_changes_nothing(nodes: FakeNodes, relays: Relays) -> None:
    relay = await relays()
    ada, bob = await nodes(), await nodes()
    count = 0

    def every_second(arrived: Arrived) -> Verdict:
        nonlocal count
        count += 1
        return Deferred(0.0) if count % 2 else Accepted()

    bob.engine.verdict = every_second
    ada.knows(bob.engine, at=str(bob.address), relays=[str(relay.address)])
    for _ in range(8):
        parcels = ada.post(bob.engine)
        await eventually(lambda: acked(ada, parcels), 5)  # noqa: B023 - waited for here
    assert count == 16
    assert not any(o.held for each in ada.engine.outcomes.values() for o in each)


async def test_without_a_relay_it_is_tried_directly_again(
    nodes: FakeNodes, mute: set[DeviceKey]
) -> None:
    """And once the peer has come to its senses, everything arrives."""
    ada, bob = await nodes(ack_deadline_s=0.2), await nodes()
    mute.add(bob.engine.key)
    ada.meets(bob)
    parcels = ada.post(bob.engine, 3)
    await eventually(lambda: ada.delivery.counters["link-stalled"] >= 2)
    mute.clear()
    await eventually(lambda: acked(ada, parcels))


async def test_the_direct_way_is_tried_again_after_a_while(
    nodes: FakeNodes, relays: Relays, mute: set[DeviceKey]
) -> None:
    relay = await relays()
    ada, bob = await nodes(ack_deadline_s=0.2, relay_instead_s=0.4), await nodes()
    mute.add(bob.engine.key)
    ada.knows(bob.engine, at=str(bob.address), relays=[str(relay.address)])
    swallowed = ada.post(bob.engine)
    await eventually(lambda: held(ada, swallowed))
    mute.clear()
    loop = asyncio.get_running_loop()
    until = loop.time() + 0.4
    await eventually(lambda: loop.time() > until)
    later = ada.post(bob.engine)
    await eventually(lambda: acked(ada, later))
