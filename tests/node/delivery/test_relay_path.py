"""The way through relays: fallback in time, ack only after the verdict, nothing lost on the way."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import mls_rs
import pytest

from node.engine.delivery_commands import Arrived, MakeKeyPackage
from node.engine.values import Accepted, BundleChanged, Deferred, KeyPackagesLow, Rejected, Verdict
from relay.server import Relay, open_relay
from relay.store.contract import Quotas
from schemas.addresses import RelayAddress
from schemas.errors import Unreachable
from schemas.ids import DeviceKey, ParcelId
from tests.node.delivery.support import (
    QUICK_TRANSPORT,
    FakeEngine,
    FakeNodes,
    Relays,
    eventually,
    relay_config,
    silent_address,
    within,
)
from tests.timing import soonest
from transport import TransportLimits


def reader(relay: Relay) -> FakeEngine:
    """An engine whose mailbox is at this relay."""
    engine = FakeEngine()
    engine.relays = (str(relay.address),)
    return engine


async def parcels_at(relay: Relay, device: DeviceKey) -> int:
    from relay.store.contract import MailboxName

    box = await relay.store.peek(
        MailboxName(device, b""), after=0, limit=1000, max_bytes=2**20, now=0
    )
    return len(box.parcels)


async def test_a_dead_address_costs_a_second_then_the_relay_has_it(
    nodes: FakeNodes, relays: Relays
) -> None:
    """The promise: the message does not wait for a direct path that may never come."""
    relay = await relays()
    dead = await silent_address(relays.stack)
    loop = asyncio.get_running_loop()

    async def both() -> tuple[float, float]:
        away = reader(relay)
        a = await nodes(transport_limits=TransportLimits())
        a.knows(away, at=dead, relays=[str(relay.address)])
        started = loop.time()
        outcomes = await a.outcomes(a.post(away, 20))
        first = loop.time() - started
        assert all(o.held is not None and o.held[0] == str(relay.address) for o in outcomes)
        assert await parcels_at(relay, away.key) == 20
        assert first > 0.8

        started = loop.time()
        await a.outcomes(a.post(away, 1))
        return first, loop.time() - started

    async def beyond_promise() -> float:
        """The longer one of both, by how much; the second message does not pay again."""
        first, second = await both()
        return max(first - 2.0, second - 1.0)

    assert await soonest(beyond_promise, below_s=0.0) < 0.0


async def test_no_message_waits_for_an_attempt_after_one_that_failed(
    nodes: FakeNodes, relays: Relays
) -> None:
    relay = await relays()
    away = reader(relay)
    a = await nodes(transport_limits=TransportLimits(dial_deadline_s=2.0), redial_first_s=0.01)
    a.knows(away, at=await silent_address(relays.stack), relays=[str(relay.address)])
    await a.outcomes(a.post(away, 1))
    await eventually(lambda: a.delivery.dialer.failing(away.key))
    loop = asyncio.get_running_loop()

    async def next_message() -> float:
        await asyncio.sleep(0.05)  # into the next attempt
        started = loop.time()
        await a.outcomes(a.post(away, 1))
        return loop.time() - started

    for _ in range(3):
        took = await soonest(next_message, below_s=0.5)
        assert took < 0.5, "another attempt is under way: nobody waits for that"


async def test_nobody_waits_where_no_address_is_known(nodes: FakeNodes, relays: Relays) -> None:
    relay = await relays()
    loop = asyncio.get_running_loop()

    async def first_message() -> float:
        away = reader(relay)
        a = await nodes()
        a.knows(away, relays=[str(relay.address)])
        started = loop.time()
        await a.outcomes(a.post(away))
        return loop.time() - started

    assert await soonest(first_message, below_s=1.0) < 1.0


async def test_direct_dialing_goes_on_while_the_relay_holds(
    nodes: FakeNodes, relays: Relays
) -> None:
    """Once the peer is back it is found, without a new message having to be sent."""
    relay = await relays()
    away = reader(relay)
    a = await nodes()
    port = (await silent_address(relays.stack)).rpartition(":")[2]
    a.knows(away, at=f"127.0.0.1:{port}", relays=[str(relay.address)])
    await a.outcomes(a.post(away))
    await relays.stack.aclose()  # the silent socket is gone, and so is the relay
    back = await nodes(engine=away)
    a.engine.known[away.key].hints = (str(back.address),)
    up = a.delivery.links.watch(away.key)
    await within(up)
    [outcome] = await a.outcomes(a.post(away))
    assert outcome.acked


async def test_without_a_relay_the_reason_is_the_direct_one(nodes: FakeNodes) -> None:
    a = await nodes()
    away = FakeEngine()
    a.knows(away)
    [outcome] = await a.outcomes(a.post(away))
    assert outcome.reason == "no-address"


async def test_a_dead_relay_is_passed_over_for_the_next_one(
    nodes: FakeNodes, relays: Relays
) -> None:
    relay = await relays()
    away = reader(relay)
    a = await nodes(relay_dial_s=0.3)
    dead = f"{await silent_address(relays.stack)}#{relay.device}"
    a.knows(away, relays=[dead, str(relay.address)])
    [outcome] = await a.outcomes(a.post(away))
    assert outcome.held is not None
    assert outcome.held[0] == str(relay.address)
    a.knows(away, relays=[dead])
    [outcome] = await a.outcomes(a.post(away))
    assert outcome.reason == "relay-unreachable"


async def test_a_full_mailbox_is_the_reason_that_the_sender_sees(
    nodes: FakeNodes, relays: Relays
) -> None:
    relay = await relays(quotas=Quotas(mailbox_parcels=3))
    away = reader(relay)
    a = await nodes()
    a.knows(away, relays=[str(relay.address)])
    outcomes = await a.outcomes(a.post(away, 5))
    assert [o.held is not None for o in outcomes] == [True] * 3 + [False] * 2
    assert outcomes[4].reason == "mailbox-full"


async def test_large_parcels_go_in_several_calls(nodes: FakeNodes, relays: Relays) -> None:
    relay = await relays()
    away = reader(relay)
    a = await nodes()
    a.knows(away, relays=[str(relay.address)])
    outcomes = await a.outcomes(a.post(away, 5, size=400_000))
    assert all(outcome.held for outcome in outcomes)
    back = await nodes(engine=away)
    await eventually(lambda: len(away.arrived) == 5)
    assert len(back.engine.open(away.arrived[4])) > 400_000


async def test_a_mailbox_is_emptied_only_after_the_commit(nodes: FakeNodes, relays: Relays) -> None:
    """A crash between reading and writing must leave the parcel at the relay."""
    relay = await relays()
    away = reader(relay)
    a = await nodes()
    a.knows(away, relays=[str(relay.address)])
    await a.outcomes(a.post(away, 150))
    held = asyncio.Event()
    loop = asyncio.get_running_loop()

    def hold(arrived: Arrived) -> Accepted:
        away.gate.clear()
        loop.call_soon_threadsafe(held.set)
        return Accepted()

    away.verdict = hold
    await nodes(engine=away)
    await within(held.wait())
    assert await parcels_at(relay, away.key) == 150
    away.verdict = lambda arrived: Accepted()
    away.gate.set()
    await eventually(lambda: len(away.arrived) == 150)
    async with asyncio.timeout(5):
        while await parcels_at(relay, away.key):
            await asyncio.sleep(0.01)
    assert {arrived.path for arrived in away.arrived} == {"relay"}
    assert len({arrived.parcel.id for arrived in away.arrived}) == 150


async def test_deferred_stays_and_is_tried_again_rejected_goes(
    nodes: FakeNodes, relays: Relays
) -> None:
    relay = await relays()
    away = reader(relay)
    a = await nodes()
    a.knows(away, relays=[str(relay.address)])
    later, never, newer, good = a.post(away, 4)
    await a.outcomes([later, never, newer, good])
    answers: dict[ParcelId, Verdict] = {
        later: Deferred(0.1),
        never: Rejected("x"),
        newer: Rejected("y", forget=False),
    }
    tried: list[object] = []

    def judge(arrived: Arrived) -> Verdict:
        tried.append(arrived.parcel.id)
        if tried.count(later) > 1:
            answers.pop(later, None)
        return answers.get(arrived.parcel.id, Accepted())

    away.verdict = judge
    await nodes(engine=away)
    await eventually(lambda: tried.count(later) == 2)
    async with asyncio.timeout(5):
        while await parcels_at(relay, away.key) != 1:
            await asyncio.sleep(0.01)
    assert tried.count(newer) == 1, "what a newer version might read is not read every second"
    assert tried.count(good) == 1


async def test_a_missing_bundle_is_fetched_before_sealing(nodes: FakeNodes, relays: Relays) -> None:
    """A card holds no hybrid key: it comes from the relay, or the message waits."""
    relay = await relays()
    away = reader(relay)
    a = await nodes()
    a.knows(away, relays=[str(relay.address)])
    [outcome] = await a.outcomes(a.post(away, keyless=True))
    assert outcome.reason == "no-hybrid-key"
    async with AsyncExitStack() as stack:
        from tests.node.delivery.support import fake_node

        away_node = await stack.enter_async_context(fake_node(engine=away))
        await eventually(lambda: away_node.delivery.pool.connected(relay.address))
        await eventually(lambda: away.count(MakeKeyPackage))
    [parcel] = a.post(away, keyless=True)
    await eventually(lambda: any(o.held for o in a.engine.outcomes[parcel]))


async def test_a_node_stocks_its_relay_and_tops_up(nodes: FakeNodes, relays: Relays) -> None:
    """Without KeyPackages at the relay nobody can invite us while we are away."""
    relay = await relays()
    away = reader(relay)
    node = await nodes(engine=away, key_package_stock=4)
    pool = node.delivery.pool
    await eventually(lambda: away.count(MakeKeyPackage) == 2 + 2 * 4)
    other = await nodes()
    client = await within(other.delivery.pool.client(relay.address))
    assert await client.holds_hybrid_key(away.key)
    assert await client.resolve_identity(away.identity.public) == away.bundle
    for suite in (mls_rs.HYBRID, mls_rs.CLASSIC):
        package, last_resort = await client.fetch_key_package(away.key, suite, bytes(16))
        assert package.startswith(b"package %d" % suite)
        assert not last_resort
    node.delivery.on_effect(KeyPackagesLow())
    await eventually(lambda: away.count(MakeKeyPackage) == 2 + 2 * 4 + 2)
    assert pool.connected(relay.address)


async def test_a_changed_relay_list_is_followed(nodes: FakeNodes, relays: Relays) -> None:
    one, two = await relays("one"), await relays("two")
    away = reader(one)
    node = await nodes(engine=away)
    await eventually(lambda: node.delivery.pool.connected(one.address))
    away.relays = (str(two.address),)
    node.delivery.on_effect(BundleChanged())
    await eventually(lambda: node.delivery.pool.connected(two.address))
    assert node.delivery.own_relays.addresses == [two.address]


async def test_a_restarted_relay_is_found_again_with_everything(
    nodes: FakeNodes, relays: Relays
) -> None:
    """Relays are restarted for updates: nobody may have to restart with them."""
    folder = relays.folder / "again"
    async with open_relay(relay_config(folder), limits=QUICK_TRANSPORT) as relay:
        away = reader(relay)
        a = await nodes()
        a.knows(away, relays=[str(relay.address)])
        b = await nodes(engine=away)
        first = a.post(away, 3)
        await a.outcomes(first)
        await eventually(lambda: len(away.arrived) == 3)
        address, listen = relay.address, str(relay.listen)
    await eventually(lambda: not b.delivery.pool.connected(address))
    outcomes = await a.outcomes(a.post(away))
    assert outcomes[0].reason == "relay-unreachable"
    async with open_relay(relay_config(folder, listen), limits=QUICK_TRANSPORT):
        await eventually(lambda: b.delivery.pool.connected(address), 20)
        async with asyncio.timeout(20):
            while not (await a.outcomes(a.post(away)))[0].held:
                await asyncio.sleep(0.05)  # as an outbox does
        parcels = [*first, *a.post(away, 2)]
        assert all(o.held for o in await a.outcomes(parcels))
        # The relay may have gone before it heard that the first three were read.
        await eventually(lambda: {each.parcel.id for each in away.arrived} >= {*parcels})


async def test_a_relay_with_another_key_gets_nothing(nodes: FakeNodes, relays: Relays) -> None:
    """The pin is what makes a relay's address trustworthy."""
    relay = await relays()
    away = reader(relay)
    a = await nodes()
    other = RelayAddress(relay.address.address, away.key)
    a.knows(away, relays=[str(other)])
    [outcome] = await a.outcomes(a.post(away))
    assert outcome.reason == "relay-key-changed", "not the same as a relay that is away"
    assert a.delivery.counters["relay-wrong-peer"] == 2, "once for a meeting, once for the parcel"
    assert await parcels_at(relay, away.key) == 0


async def test_a_failed_relay_is_not_hammered(nodes: FakeNodes, relays: Relays) -> None:
    a = await nodes(relay_dial_s=0.1, relay_retry_first_s=30.0)
    address = RelayAddress.parse(f"{await silent_address(relays.stack)}#{a.engine.key}")
    with pytest.raises(Unreachable):
        await within(a.delivery.pool.client(address))
    for _ in range(50):
        with pytest.raises(Unreachable):
            await within(a.delivery.pool.client(address))
    assert a.delivery.counters["relay-no-answer"] == 1
