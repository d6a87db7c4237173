"""Push: what arrives is brought to whoever subscribed, one batch at a time, after the commit."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import apsw
import pytest

import transport
from identity.keys import KeyPair
from relay import subscriptions as push
from relay.limits import PUSH_BYTES, RelayLimits
from relay.server import STOP_DEADLINE_S, Relay, open_relay
from relay.store.sqlite import writer as writing
from relay.store.sqlite.store import SqliteStore
from schemas.errors import Blame, Fault
from schemas.ids import DeviceKey
from schemas.node_service import (
    AUTH_VERSION,
    RELAY_ALPN,
    NodeService,
    ParcelSink,
    fill_parcels,
    read_parcels,
)
from schemas.node_service import StoredParcel as Stored
from tests.relay.support import Clock, client_of, config_for, new_device, parcel, within


@dataclass
class Sink:
    """Takes what is pushed; holds each push until `gate` is open."""

    batches: list[tuple[Stored, ...]] = field(default_factory=list)
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    inside: int = 0
    most: int = 0
    fails: bool = False

    def __post_init__(self) -> None:
        self.gate.set()

    async def parcels_context(self, context: Any) -> None:
        self.inside += 1
        self.most = max(self.most, self.inside)
        try:
            if self.fails:
                raise RuntimeError("no")
            self.batches.append(read_parcels(context.params))
            await self.gate.wait()
        finally:
            self.inside -= 1

    @property
    def sequences(self) -> list[int]:
        return [each.sequence for batch in self.batches for each in batch]

    async def has(self, number: int) -> None:
        async with asyncio.timeout(20):
            while len(self.sequences) < number:
                await asyncio.sleep(0.005)


@dataclass
class Subscriber:
    device: KeyPair[DeviceKey]
    rpc: transport.RpcClient
    service: Any
    connection: transport.Connection

    async def subscribe(self, sink: Sink, after: int = 0, key: DeviceKey | None = None) -> str:
        own = self.device.public
        answer = await self.service.subscribe(
            auth={"version": AUTH_VERSION, "deviceId": bytes(own)},
            recipientKey=bytes(own if key is None else key),
            after=after,
            sink=self.rpc.export(ParcelSink, sink),
        )
        return str(answer.error.code)


@asynccontextmanager
async def subscriber(
    relay: Relay, device: KeyPair[DeviceKey] | None = None
) -> AsyncIterator[Subscriber]:
    device = new_device() if device is None else device
    endpoint = await transport.Endpoint.open(
        device.private, transport.Address("127.0.0.1", 0), handlers={}
    )
    try:
        where = transport.Address(*relay.listen)
        connection = await endpoint.dial([where], expected=relay.device, alpn=RELAY_ALPN)
        async with transport.connect_rpc(await connection.open_stream()) as rpc:
            yield Subscriber(device, rpc, rpc.cast_as(NodeService), connection)
    finally:
        await endpoint.close()


async def ended(relay: Relay, reason: str) -> None:
    async with asyncio.timeout(20):
        while not relay.service.subscriptions.counters[reason]:
            await asyncio.sleep(0.005)


async def test_what_is_there_and_what_comes_is_pushed_in_order_and_stays(relay: Relay) -> None:
    bob, sink = new_device(), Sink()
    async with client_of(relay) as alice, subscriber(relay, bob) as client:
        for _ in range(3):
            await alice.enqueue(parcel(bob.public))
        assert await client.subscribe(sink, after=1) == ""
        await sink.has(2)
        for _ in range(3):
            await alice.enqueue(parcel(bob.public))
        await sink.has(5)
        assert sink.sequences == [2, 3, 4, 5, 6]
    async with client_of(relay, bob) as reader:
        assert len((await reader.peek()).parcels) == 6, "a push deletes nothing"


async def test_a_subscription_that_names_nowhere_to_push_is_refused(relay: Relay) -> None:
    async with client_of(relay) as client:
        own = bytes(client.device.public)
        assert await client.code("subscribe", recipientKey=own) == "malformed-request"
        assert await client.code("health") == ""
    assert len(relay.service.subscriptions) == 0
    assert relay.desk.refusals == {"malformed-request": 1}


async def test_one_push_at_a_time_and_the_rest_together_and_bounded(relay: Relay) -> None:
    bob, sink = new_device(), Sink()
    sink.gate.clear()
    size = PUSH_BYTES // 3
    async with client_of(relay) as alice, subscriber(relay, bob) as client:
        await alice.enqueue(parcel(bob.public, size=size))
        assert await client.subscribe(sink) == ""
        await sink.has(1)
        for _ in range(10):
            await alice.enqueue(parcel(bob.public, size=size))
        await alice.enqueue(parcel(bob.public, size=PUSH_BYTES + 1))
        assert len(sink.batches) == 1, "the first has not returned"
        sink.gate.set()
        await sink.has(12)
        assert sink.most == 1
        for batch in sink.batches:
            assert len(batch) == 1 or sum(len(p.sealed) for p in batch) <= PUSH_BYTES
        assert len(sink.batches) < 10, "what waited goes together"


async def test_nothing_is_pushed_before_its_commit(
    relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A commit that fails must not have been seen by anybody."""
    bob, sink = new_device(), Sink()
    async with client_of(relay) as alice, subscriber(relay, bob) as client:
        assert await client.subscribe(sink) == ""

        def failing(_: object) -> Any:
            raise apsw.FullError("full")

        with monkeypatch.context() as patch:
            patch.setattr(writing, "transaction", failing)
            assert (await alice.enqueue(parcel(bob.public))).error.code == "disk-full"
        assert sink.batches == []
        await alice.enqueue(parcel(bob.public))
        await sink.has(1)


async def test_a_caller_that_went_away_during_the_commit_still_wakes_the_subscriber(
    relay: Relay,
) -> None:
    bob, sink = new_device(), Sink()
    async with subscriber(relay, bob) as client:
        assert await client.subscribe(sink) == ""
        enqueue = asyncio.create_task(relay.store.enqueue([parcel(bob.public)], now=1_800_000_000))
        await asyncio.sleep(0)
        enqueue.cancel()
        await sink.has(1)


async def test_a_store_that_was_away_for_a_moment_costs_no_subscription(
    relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody tells a subscriber that its subscription ended: it would wait in vain."""
    monkeypatch.setattr(push, "LOOK_AGAIN_S", 0.01)
    bob, sink = new_device(), Sink()
    async with client_of(relay) as alice, subscriber(relay, bob) as client:
        assert await client.subscribe(sink) == ""
        store, peek, tries = relay.service.subscriptions._store, SqliteStore.peek, 0

        async def away(*args: Any, **kwargs: Any) -> Any:
            nonlocal tries
            tries += 1
            if tries <= 3:
                raise Fault("store-unavailable", "no", blame=Blame.ENVIRONMENT)
            return await peek(store, *args, **kwargs)  # type: ignore[arg-type]

        monkeypatch.setattr(store, "peek", away)
        await alice.enqueue(parcel(bob.public))
        await sink.has(1)
        await alice.enqueue(parcel(bob.public))
        await sink.has(2)
    assert tries > 3


async def test_subscriptions_do_not_look_all_at_once_into_a_store_that_was_away(
    relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(push, "LOOK_AGAIN_S", 0.4)
    looks: dict[object, list[float]] = defaultdict(list)
    loop = asyncio.get_running_loop()

    async def away(name: object, **_: Any) -> Any:
        looks[name].append(loop.time())
        raise Fault("store-unavailable", "no", blame=Blame.ENVIRONMENT)

    monkeypatch.setattr(relay.service.subscriptions._store, "peek", away)
    async with AsyncExitStack() as stack:
        for _ in range(12):
            client = await stack.enter_async_context(subscriber(relay))
            assert await client.subscribe(Sink()) == ""
        async with asyncio.timeout(20):
            while len(looks) < 12 or min(map(len, looks.values())) < 2:
                await asyncio.sleep(0.005)
    waits = [times[1] - times[0] for times in looks.values()]
    assert min(waits) >= 0.75 * 0.4
    assert max(waits) - min(waits) > 0.05, "spread over 0.2 s"


async def test_only_the_owner_subscribes(relay: Relay) -> None:
    async with subscriber(relay) as client:
        assert await client.subscribe(Sink(), key=new_device().public) == "not-your-mailbox"
    assert not len(relay.service.subscriptions)


async def test_a_newer_subscription_replaces_the_older(relay: Relay) -> None:
    bob, first, second = new_device(), Sink(), Sink()
    async with client_of(relay) as alice, subscriber(relay, bob) as client:
        assert await client.subscribe(first) == ""
        assert await client.subscribe(second) == ""
        await ended(relay, "replaced")
        await alice.enqueue(parcel(bob.public))
        await second.has(1)
        assert first.batches == []
        assert len(relay.service.subscriptions) == 1


async def test_a_subscription_ends_with_its_connection(relay: Relay) -> None:
    async with subscriber(relay) as client:
        assert await client.subscribe(Sink()) == ""
        assert len(relay.service.subscriptions) == 1
    async with asyncio.timeout(20):
        while len(relay.service.subscriptions) or len(relay.store.arrivals):
            await asyncio.sleep(0.005)


async def test_a_sink_that_fails_ends_its_subscription_only(relay: Relay) -> None:
    bob, sink = new_device(), Sink(fails=True)
    async with client_of(relay) as alice, subscriber(relay, bob) as client:
        assert await client.subscribe(sink) == ""
        await alice.enqueue(parcel(bob.public))
        await ended(relay, "rpc-failed")
        good = Sink()
        assert await client.subscribe(good) == ""
        await good.has(1)


async def test_a_sink_that_does_not_return_ends_its_subscription(
    relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("relay.mailbox_methods.PUSH_DEADLINE_S", 0.1)
    bob, sink = new_device(), Sink()
    sink.gate.clear()
    async with client_of(relay) as alice, subscriber(relay, bob) as client:
        assert await client.subscribe(sink) == ""
        await alice.enqueue(parcel(bob.public))
        await ended(relay, "sink-too-slow")
        assert not len(relay.service.subscriptions)
        sink.gate.set()


async def test_subscriptions_are_capped(kj: None, clock: Clock, tmp_path: Path) -> None:
    limits = RelayLimits(subscriptions=3, subscriptions_per_device=2)
    async with open_relay(config_for(tmp_path, limits=limits), clock=clock) as relay:
        bob = new_device()
        async with (
            subscriber(relay, bob) as one,
            subscriber(relay, bob) as two,
            subscriber(relay, bob) as three,
            subscriber(relay) as ada,
            subscriber(relay) as cy,
        ):
            assert await one.subscribe(Sink()) == ""
            assert await two.subscribe(Sink()) == ""
            assert await three.subscribe(Sink()) == "too-many-subscriptions"
            assert await ada.subscribe(Sink()) == ""
            assert await cy.subscribe(Sink()) == "too-many-subscriptions"
            assert relay.desk.refusals["too-many-subscriptions"] == 2


async def test_a_stop_lets_the_push_that_runs_arrive(
    kj: None, clock: Clock, tmp_path: Path
) -> None:
    bob, sink = new_device(), Sink()
    sink.gate.clear()
    running = open_relay(config_for(tmp_path), clock=clock)
    relay = await running.__aenter__()
    async with client_of(relay) as alice, subscriber(relay, bob) as client:
        await client.subscribe(sink)
        await alice.enqueue(parcel(bob.public))
        await sink.has(1)
        stopping = asyncio.create_task(running.__aexit__(None, None, None))
        async with asyncio.timeout(20):
            while not relay.desk.stopping:
                await asyncio.sleep(0)
        sink.gate.set()
        await within(stopping)
    assert relay.service.subscriptions.counters["relay-stopping"] == 1


async def test_a_stop_does_not_wait_for_a_node_that_is_gone(
    kj: None, clock: Clock, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Sooner than what stops a relay (systemd, `demo`, a tired operator) kills it."""
    caplog.set_level("INFO", logger="relay.subscriptions")
    bob, sink = new_device(), Sink()
    sink.gate.clear()  # never opened
    running = open_relay(config_for(tmp_path), clock=clock)
    relay = await running.__aenter__()
    async with client_of(relay) as alice, subscriber(relay, bob) as client:
        await client.subscribe(sink)
        await alice.enqueue(parcel(bob.public))
        await sink.has(1)
        begun = time.monotonic()
        await within(running.__aexit__(None, None, None))
        assert time.monotonic() - begun < STOP_DEADLINE_S - 0.5
    assert "1 pushes are cut off" in caplog.text
    async with (
        open_relay(config_for(tmp_path), clock=clock) as relay,
        client_of(relay, bob) as reader,
    ):
        assert len((await reader.peek()).parcels) == 1


async def test_a_slow_sink_holds_one_batch_of_memory(
    relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    """16 MiB wait in the mailbox; the relay reads one batch of them until the sink returns."""
    read: list[int] = []
    fill = fill_parcels

    def watched(builder: Any, parcels: Any) -> None:
        read.append(sum(len(each.sealed) for each in parcels))
        fill(builder, parcels)

    monkeypatch.setattr(push, "fill_parcels", watched)
    bob, sink = new_device(), Sink()
    sink.gate.clear()
    big = [parcel(bob.public, size=64 * 1024) for _ in range(256)]
    await relay.store.enqueue(big, now=1_800_000_000)
    async with subscriber(relay, bob) as client:
        assert await client.subscribe(sink) == ""
        await sink.has(1)
        await relay.store.enqueue([parcel(bob.public)], now=1_800_000_000)
        await asyncio.sleep(0.05)
        assert len(read) == 1
        assert read[0] <= PUSH_BYTES
        sink.gate.set()
        await sink.has(257)
