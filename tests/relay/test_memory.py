"""One budget of memory for all callers: kept to, given back whatever happens, told as `busy`."""

from __future__ import annotations

import asyncio
import struct
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import pytest

import transport
from relay import subscriptions
from relay.callers import Callers
from relay.limits import RelayLimits
from relay.memory import Memory
from relay.refusals import TryLater
from relay.server import Relay, open_relay
from schemas.limits import KIB, MIB
from schemas.node_service import ParcelSink
from tests.relay.support import (
    Client,
    Clock,
    client_of,
    config_for,
    counting_loopback,
    new_device,
    parcel,
    within,
)

_LONG = struct.pack("<II", 0, (MIB - 8) // 8)  # the head of a message of 1 MiB


async def test_who_asks_first_gets_room_first() -> None:
    memory = Memory(100)
    await memory.take(80)
    order: list[str] = []

    async def ask(name: str, size: int) -> None:
        await memory.take(size)
        order.append(name)

    large = asyncio.create_task(ask("large", 60))
    await asyncio.sleep(0)
    small = asyncio.create_task(ask("small", 10))
    await asyncio.sleep(0)
    assert order == [], "small ones for ever would starve a large one"
    memory.note(-80)
    await within(asyncio.gather(large, small))
    assert (order, memory.held) == (["large", "small"], 70)


async def test_what_is_larger_than_all_has_room_alone() -> None:
    memory = Memory(100)
    await memory.take(500)
    assert memory.full
    with pytest.raises(TryLater) as raised:
        await memory.take(1, wait_s=0.01)
    assert raised.value.code == "busy"
    memory.note(-500)
    assert memory.held == 0


@pytest.mark.parametrize("given", [False, True])
async def test_who_stops_waiting_holds_nothing(given: bool) -> None:
    memory = Memory(100)
    await memory.take(100)
    first, second = (asyncio.create_task(memory.take(size)) for size in (90, 20))
    await asyncio.sleep(0)
    if given:
        memory.note(-100)  # and it is cancelled before it learns of it
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    if not given:
        memory.note(-100)
    await within(second)
    assert memory.held == 20


async def test_calls_are_refused_while_there_is_too_much_and_health_answers(relay: Relay) -> None:
    memory = relay.service.callers.memory
    async with client_of(relay) as client:
        memory.note(memory.limit)
        answer = await client.call("observeAddress")
        assert answer.error.code == "busy"
        assert answer.error.retryAfterMs > 0
        assert await client.code("health") == ""
        memory.note(-memory.limit)
        assert await client.code("observeAddress") == ""
    assert relay.desk.refusals["busy"] == 1


async def test_a_long_message_is_not_collected_while_there_is_no_room(relay: Relay) -> None:
    memory = relay.service.callers.memory
    async with client_of(relay) as client:
        memory.note(memory.limit)
        stream = await client.connection.open_stream()
        await stream.write(_LONG + bytes(200 * KIB))
        with pytest.raises(transport.StreamReset):
            await within(_read_all(stream))
        assert relay.counters["rpc-memory"] == 1
        memory.note(-memory.limit)
        stream = await client.connection.open_stream()
        await stream.write(_LONG + bytes(200 * KIB))
        async with asyncio.timeout(10):
            while memory.held < 200 * KIB:
                await asyncio.sleep(0.005)
        assert relay.counters["rpc-memory"] == 1, "there is room: it waits for the rest"
    async with asyncio.timeout(10):
        while memory.held:
            await asyncio.sleep(0.005)


async def test_a_share_is_held_of_the_whole_and_waited_for_apart() -> None:
    whole = Memory(100)
    one, two = Memory(40, of=whole), Memory(40, of=whole)
    await one.take(40)
    assert (whole.held, one.full, two.full, whole.full) == (40, True, False, False)
    with pytest.raises(TryLater):
        await one.take(1, wait_s=0.01)
    await two.take(40)
    assert not two.note(1), "over its share"
    assert whole.held == 81
    with pytest.raises(TryLater):
        await Memory(40, of=whole).take(30, wait_s=0.01)
    later = asyncio.create_task(one.take(30))
    await asyncio.sleep(0)
    one.note(-40)
    await within(later)
    two.note(-41)
    one.note(-30)
    assert (whole.held, one.held, two.held) == (0, 0, 0)


async def _begin_messages(clients: list[Client], size: int) -> None:
    """Beginnings of calls of 1 MiB, and nothing more."""
    for client in clients:
        for _ in range(3):
            stream = await client.connection.open_stream()
            await stream.write(_LONG + bytes(size))


async def test_one_place_holds_a_share_of_the_memory(
    kj: None, clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counting_loopback(monkeypatch)
    config = config_for(tmp_path, limits=RelayLimits(memory_bytes=8 * MIB))
    async with open_relay(config, clock=clock) as relay, AsyncExitStack() as stack:
        memory = relay.service.callers.memory
        honest = await stack.enter_async_context(client_of(relay))
        attackers = [
            await stack.enter_async_context(client_of(relay, host="127.0.0.9")) for _ in range(3)
        ]
        await _begin_messages(attackers, 600 * KIB)
        async with asyncio.timeout(10):
            while relay.counters["rpc-memory"] < 8:  # of nine
                await asyncio.sleep(0.005)
        assert memory.held <= 1 * MIB + 9 * 16 * KIB
        assert await honest.code("observeAddress") == ""
        assert (await honest.enqueue(parcel(honest.device.public))).error.code == ""
        assert len((await honest.peek()).parcels) == 1


async def test_a_message_that_stays_unfinished_has_a_deadline(
    kj: None, clock: Clock, tmp_path: Path
) -> None:
    limits = replace(transport.DEFAULT_LIMITS, rpc_message_deadline_s=0.3)
    config = config_for(tmp_path)
    async with (
        open_relay(config, clock=clock, limits=limits) as relay,
        client_of(relay) as client,
    ):
        stream = await client.connection.open_stream()
        await stream.write(_LONG + bytes(200 * KIB))
        with pytest.raises(transport.StreamReset):
            await within(_read_all(stream))
        assert relay.counters["rpc-slow"] == 1
        slow = await client.connection.open_stream()
        with pytest.raises(transport.StreamReset):
            await within(_drip(slow))  # a byte now and then does not prolong it
        assert relay.counters["rpc-slow"] == 2
        async with asyncio.timeout(10):
            while relay.service.callers.memory.held:
                await asyncio.sleep(0.005)
        await asyncio.sleep(0.4)
        assert await client.code("health") == "", "who has nothing under way may be silent"


async def _drip(stream: transport.Stream) -> None:
    for byte in _LONG + bytes(10_000):
        await stream.write(bytes([byte]))
        await asyncio.sleep(0.02)


async def _read_all(stream: transport.Stream) -> None:
    while await stream.read():
        pass


class Sink:
    def __init__(self) -> None:
        self.began = asyncio.Event()
        self.go_on = asyncio.Event()

    async def parcels_context(self, _: object) -> None:
        self.began.set()
        await self.go_on.wait()


async def test_everything_is_given_back(relay: Relay) -> None:
    memory, bob = relay.service.callers.memory, new_device()
    async with client_of(relay) as alice, client_of(relay, bob) as owner:
        await asyncio.gather(*(alice.enqueue(parcel(bob.public, size=100 * KIB)) for _ in range(8)))
        for _ in range(3):
            await owner.peek()
        own = bytes(bob.public)
        abandoned = [asyncio.create_task(owner.peek()) for _ in range(20)]
        await asyncio.sleep(0.01)
        for each in abandoned:
            each.cancel()
        await asyncio.gather(*abandoned, return_exceptions=True)
        await owner.call("fetch", recipientKey=own)
        owner.connection.close_now()
    async with asyncio.timeout(10):
        while memory.held:
            await asyncio.sleep(0.005)


async def test_the_slowest_sink_makes_room_for_the_others(
    kj: None, clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscriptions, "PUSH_SLOW_S", 0.1)
    config = config_for(tmp_path, limits=RelayLimits(memory_bytes=600 * KIB))
    async with open_relay(config, clock=clock) as relay:
        devices = [new_device() for _ in range(3)]
        async with client_of(relay) as alice:
            for device in devices:
                await alice.enqueue(parcel(device.public, size=250 * KIB))
        sinks = [Sink() for _ in devices]
        async with (
            client_of(relay, devices[0]) as one,
            client_of(relay, devices[1]) as two,
            client_of(relay, devices[2]) as three,
        ):
            for client, sink in zip((one, two, three), sinks, strict=True):
                capability = ParcelSink._new_client(_Server(sink))
                own = bytes(client.device.public)
                assert await client.code("subscribe", recipientKey=own, sink=capability) == ""
                await within(sink.began.wait())
            counters = relay.service.subscriptions.counters
            assert counters["sink-too-slow"] >= 1, "two that never return held all there is"
            for sink in sinks:
                sink.go_on.set()


class _Server(ParcelSink.Server):  # type: ignore[misc]
    def __init__(self, sink: Sink) -> None:
        self.parcels_context = sink.parcels_context


def test_a_mailbox_is_not_flooded_by_many() -> None:
    callers = Callers(RelayLimits(mailbox_parcels_rate=1, mailbox_parcels_burst=3), lambda: 100.0)
    bob, ann = (new_device().public for _ in range(2))
    for _ in range(3):
        callers.check_brought(parcel(bob))
        callers.use_brought(parcel(bob))
    with pytest.raises(TryLater) as raised:
        callers.check_brought(parcel(bob))
    assert (raised.value.code, raised.value.retry_after_ms >= 1000) == ("try-later", True)
    callers.check_brought(parcel(ann))


async def test_many_senders_meet_the_rate_of_one_mailbox(
    kj: None, clock: Clock, tmp_path: Path
) -> None:
    limits = RelayLimits(mailbox_parcels_rate=1, mailbox_parcels_burst=1)
    bob = new_device().public
    async with (
        open_relay(config_for(tmp_path, limits=limits), clock=clock) as relay,
        client_of(relay) as one,
        client_of(relay) as another,
    ):
        told = [(await each.enqueue(parcel(bob))).error for each in (one, another, one, another)]
        assert told[0].code == ""
        assert told[-1].code == "try-later", "four within two seconds, one a second"
        assert told[-1].retryAfterMs > 0
        assert relay.desk.refusals["try-later"] >= 1
