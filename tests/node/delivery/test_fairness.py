"""Many recipients with a backlog do not make one message wait for all of it."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

from node.delivery.turns import Turns
from node.engine import commands as c
from node.engine import delivery_commands as d
from tests.node.delivery.support import FakeEngine, FakeNodes, Relays, eventually, within

CROWD = 60
BACKLOG = 40


async def test_one_message_leaves_before_the_backlog_of_a_large_group(
    nodes: FakeNodes, relays: Relays
) -> None:
    """A chat of two must not wait while thousands of parcels go out to a large group."""
    relay = await relays()
    a = await nodes()
    crowd = [FakeEngine() for _ in range(CROWD)]
    friend = FakeEngine()
    taken: list[bytes] = []
    answer = a.engine._answer

    def watch(command: c.Command[object], effects: list[object]) -> object:
        items = answer(command, effects)  # type: ignore[arg-type]
        if isinstance(command, d.TakeDue):
            assert isinstance(items, tuple)
            taken.extend(item.recipient for item in items)
        return items

    a.engine._answer = watch  # type: ignore[method-assign, assignment]
    for each in [*crowd, friend]:
        a.knows(each, relays=[str(relay.address)])
    couriers = a.delivery.couriers
    async with AsyncExitStack() as held:  # until all stand in line: how long dialling takes varies
        for _ in range(a.delivery.limits.take_at_once):
            await held.enter_async_context(couriers._turns.turn(newcomer=True))
        for each in crowd:
            a.post(each, BACKLOG)
        [message] = a.post(friend)
        await eventually(lambda: len(couriers._turns._newcomers) == CROWD + 1)
    [outcome] = await a.outcomes([message], 20)
    assert outcome.held
    place = taken.index(friend.key)
    limits = a.delivery.limits
    # Each of the crowd once, and again those who got a turn at the same moment.
    assert place <= (CROWD + limits.take_at_once - 1) * limits.take_crowded
    assert place < CROWD * BACKLOG / 3


async def test_newcomers_go_first_and_a_cancelled_turn_is_passed_on() -> None:
    turns = Turns(1)
    order: list[str] = []
    release = asyncio.Event()

    async def holder() -> None:
        async with turns.turn(newcomer=True):
            await release.wait()

    async def waiter(name: str, *, newcomer: bool) -> None:
        async with turns.turn(newcomer=newcomer):
            order.append(name)

    first = asyncio.create_task(holder())
    await asyncio.sleep(0)
    tasks = [asyncio.create_task(waiter(f"old {n}", newcomer=False)) for n in range(3)]
    tasks.append(asyncio.create_task(waiter("new", newcomer=True)))
    await asyncio.sleep(0)
    tasks[0].cancel()
    release.set()
    await within(asyncio.gather(first, *tasks, return_exceptions=True))
    assert order == ["new", "old 1", "old 2"]
    await within(waiter("later", newcomer=False))
