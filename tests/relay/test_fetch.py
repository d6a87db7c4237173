"""The seed's way of reading: `fetch` hands out and deletes, `fetchWait` waits for mail."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from relay.server import Relay, open_relay
from relay.store.contract import MailboxName, Quotas
from schemas.errors import Fault
from tests.relay.support import (
    NOW,
    Client,
    Clock,
    client_of,
    config_for,
    new_device,
    parcel,
    within,
)
from transport.kj import KjTransport


async def fetch(client: Client, limit: int = 0) -> list[int]:
    answer = await client.call("fetch", recipientKey=bytes(client.device.public), limit=limit)
    assert answer.error.code == ""
    return [each.sequence for each in answer.parcels]


async def fetch_wait(client: Client, timeout_ms: int) -> list[int]:
    answer = await client.call(
        "fetchWait", recipientKey=bytes(client.device.public), timeoutMs=timeout_ms
    )
    assert answer.error.code == "", answer.error.code
    return [each.sequence for each in answer.parcels]


async def emptied(relay: Relay, client: Client) -> None:
    async with asyncio.timeout(20):
        while (await relay.store.mailbox_state(MailboxName(client.device.public))).parcels:
            await asyncio.sleep(0.01)


async def test_fetch_drains(relay: Relay) -> None:
    bob = new_device()
    async with client_of(relay) as alice, client_of(relay, bob) as client:
        for _ in range(5):
            await alice.enqueue(parcel(bob.public))
        assert await fetch(client, limit=2) == [1, 2]
        assert await fetch(client) == [3, 4, 5], "what was handed out is not handed out again"
        assert await fetch(client) == []
        await emptied(relay, client)


async def test_an_answer_that_was_lost_is_handed_out_again(
    relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client dies while the answer is written: nothing may be deleted that it does not have."""
    bob = new_device()
    async with client_of(relay) as alice, client_of(relay, bob) as client:
        await alice.enqueue(parcel(bob.public))
        methods = relay.service.mailboxes
        answer = methods._answer

        def dying(*arguments: Any) -> None:
            client.connection.abort()
            answer(*arguments)

        with monkeypatch.context() as patch:
            patch.setattr(methods, "_answer", dying)
            with pytest.raises(Fault):
                await fetch(client)
        await asyncio.sleep(0.2)  # by then it would have been deleted
    async with client_of(relay, bob) as client:
        assert await fetch(client) == [1]


async def test_an_answer_that_waits_to_be_written_is_not_taken_for_received(
    relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slow loop, or a stream that is full: the client has nothing, though nothing is unsent."""
    bob = new_device()
    async with client_of(relay) as alice, client_of(relay, bob) as client:
        await alice.enqueue(parcel(bob.public))
        methods, write = relay.service.mailboxes, KjTransport.write
        answer, answered = methods._answer, asyncio.Event()
        waiting: list[tuple[KjTransport, bytes]] = []

        def late(transport: KjTransport, data: bytes) -> None:
            if answered.is_set():
                waiting.append((transport, data))
            else:
                write(transport, data)

        def answering(*arguments: Any) -> None:
            answer(*arguments)
            answered.set()

        with monkeypatch.context() as patch:
            patch.setattr(KjTransport, "write", late)
            patch.setattr(methods, "_answer", answering)
            fetching = asyncio.ensure_future(fetch(client))
            await within(answered.wait())
            await asyncio.sleep(0.2)  # by then it would have been deleted
            state = await relay.store.mailbox_state(MailboxName(bob.public))
            assert state.parcels == 1
        for transport, data in waiting:
            write(transport, data)
        assert await within(fetching) == [1]
        await emptied(relay, client)


async def test_only_the_owner_fetches(relay: Relay) -> None:
    async with client_of(relay) as client:
        for method in ("fetch", "fetchWait"):
            other = bytes(new_device().public)
            assert await client.code(method, recipientKey=other) == "not-your-mailbox"


async def test_fetch_wait_wakes_at_once(relay: Relay) -> None:
    bob = new_device()
    async with client_of(relay) as alice, client_of(relay, bob) as client:
        waiting = asyncio.create_task(fetch_wait(client, 15_000))
        async with asyncio.timeout(20):
            while not len(relay.store.arrivals):
                await asyncio.sleep(0.005)
        begun = time.monotonic()
        await alice.enqueue(parcel(bob.public))
        assert await within(waiting) == [1]
        assert time.monotonic() - begun < 10, "it was woken, not timed out"


async def test_fetch_wait_gives_up_with_nothing(relay: Relay) -> None:
    async with client_of(relay) as client:
        assert await fetch_wait(client, 20) == []
    assert not len(relay.store.arrivals)


async def test_a_thousand_abandoned_waits_leave_nothing(relay: Relay) -> None:
    limit = relay.service.callers.limits.waits_per_connection
    for _ in range(4):
        async with client_of(relay) as client:
            own = bytes(client.device.public)
            calls = [
                asyncio.ensure_future(client.call("fetchWait", recipientKey=own, timeoutMs=60_000))
                for _ in range(250)
            ]
            async with asyncio.timeout(60):
                # Who is refused hears of it before the others have looked into their mailboxes.
                while (
                    sum(call.done() for call in calls) < 250 - limit
                    or len(relay.store.arrivals) < limit
                ):
                    await asyncio.sleep(0.005)
            codes = [call.result().error.code for call in calls if call.done()]
            assert codes == ["too-many-waits"] * (250 - limit)
            assert len(relay.store.arrivals) == limit
            assert await client.code("health") == "", "others are answered meanwhile"
            for call in calls:
                call.cancel()
            await asyncio.gather(*calls, return_exceptions=True)
    async with asyncio.timeout(60):
        while len(relay.store.arrivals) or relay.desk.running:
            await asyncio.sleep(0.005)


async def test_a_thousand_waits_given_up_on_one_connection_leave_nothing(relay: Relay) -> None:
    """As many as may wait at once, given up, and the same again: the places come back each time."""
    limit = relay.service.callers.limits.waits_per_connection
    async with client_of(relay) as client, asyncio.timeout(60):
        own = bytes(client.device.public)
        assert await client.code("health") == ""  # now all that serves the stream runs
        tasks = len(asyncio.all_tasks())
        for _ in range(1_000 // limit):
            calls = [
                asyncio.ensure_future(client.call("fetchWait", recipientKey=own, timeoutMs=60_000))
                for _ in range(limit)
            ]
            while len(relay.store.arrivals) < limit:
                await asyncio.sleep(0.001)
            for call in calls:
                call.cancel()
            await asyncio.gather(*calls, return_exceptions=True)
            while relay.desk.running or len(relay.store.arrivals):
                await asyncio.sleep(0.001)
        while len(asyncio.all_tasks()) > tasks:  # the last ones are about to end
            await asyncio.sleep(0.001)
        assert await client.code("health") == ""
        assert not relay.counters


async def test_a_stop_answers_who_waits(kj: None, clock: Clock, tmp_path: Path) -> None:
    running = open_relay(config_for(tmp_path), clock=clock)
    relay = await running.__aenter__()
    async with client_of(relay) as client:
        waiting = asyncio.create_task(fetch_wait(client, 60_000))
        async with asyncio.timeout(20):
            while not len(relay.store.arrivals):
                await asyncio.sleep(0.005)
        await within(running.__aexit__(None, None, None))
        assert await waiting == []


async def test_the_owner_sees_since_when_mail_was_refused_until_there_is_room(
    kj: None, clock: Clock, tmp_path: Path
) -> None:
    config = config_for(tmp_path, quotas=Quotas(mailbox_parcels=2))
    bob = new_device()
    async with (
        open_relay(config, clock=clock) as relay,
        client_of(relay) as alice,
        client_of(relay, bob) as client,
    ):
        assert (await client.peek()).refusedSince == 0
        for _ in range(2):
            await alice.enqueue(parcel(bob.public))
        assert (await alice.enqueue(parcel(bob.public))).error.code == "mailbox-full"
        clock.now += 5
        assert (await alice.enqueue(parcel(bob.public))).error.code == "mailbox-full"
        # Seen once without room, it stays.
        assert (await client.peek()).refusedSince == NOW
        assert (await client.peek()).refusedSince == NOW
        await client.ack(1)
        # The owner has seen it, and there is room.
        assert (await client.peek()).refusedSince == 0
        # A refusal between a look and its acknowledgement is not forgotten unseen.
        await alice.enqueue(parcel(bob.public))
        await client.peek()
        assert (await alice.enqueue(parcel(bob.public))).error.code == "mailbox-full"
        await client.ack(2)
        assert (await client.peek()).refusedSince == NOW + 5
