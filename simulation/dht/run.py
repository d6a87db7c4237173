"""One variant of one seed, from the first relay to the last look-up."""

from __future__ import annotations

import asyncio
import gc
import random
import time
from collections.abc import Callable
from typing import Final

from discovery.dht.limits import DEFAULT_DHT_LIMITS, DhtLimits
from simulation.dht.figures import Lookup, Result, Traffic
from simulation.dht.network import LOOKUPS, PURPOSES, purpose
from simulation.dht.person import Session
from simulation.dht.plan import Plan
from simulation.dht.world import LOOKED_FOR, World
from simulation.wire.loop import VirtualLoop

TOLD_S: Final = 60.0  # virtual: how often a run says how far it is
SETTLED_S: Final = 60.0  # authors who are online for so long count; readers too
ROUNDING_S: Final = 0.001
COLLECTED: Final = (100_000, 20, 100)  # garbage: tables are large, and nearly all of it lives

Tell = Callable[[float], None]


def run(plan: Plan, tell: Tell, limits: DhtLimits = DEFAULT_DHT_LIMITS) -> Result:
    """`tell(part)` says how far it is, 0 to 1. Whatever happens in it is in the answer."""
    began = time.process_time()
    collected = gc.get_threshold()
    gc.set_threshold(*COLLECTED)
    try:
        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            result = runner.run(_play(plan, tell, limits))
    finally:
        gc.set_threshold(*collected)
    result.cpu_s = time.process_time() - began
    return result


async def _play(plan: Plan, tell: Tell, limits: DhtLimits) -> Result:
    loop = asyncio.get_running_loop()
    world = World(plan, loop, limits)
    world.begin()
    await _pass(plan.warm_up_s, plan, tell)
    before = {name: (world.network.requests[name], world.network.bytes[name]) for name in PURPOSES}
    lookups = await _look_up(world, tell)
    traffic = {
        name: Traffic(world.network.requests[name] - requests, world.network.bytes[name] - size)
        for name, (requests, size) in before.items()
    }
    tables = world.tables()
    await world.end()
    return Result(
        plan,
        world.network.digest,
        world.broken,
        lookups,
        traffic,
        tables,
        world.joins,
        world.leaves,
        world.network.carried,
        loop.time(),
        0.0,
        dict(world.counts),
    )


async def _pass(seconds: float, plan: Plan, tell: Tell) -> None:
    """Lets that much time go by."""
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    while (left_s := end - loop.time()) > 0:
        await asyncio.sleep(min(TOLD_S, left_s))
        tell(loop.time() / (plan.warm_up_s + plan.measured_s))


async def _look_up(world: World, tell: Tell) -> list[Lookup]:
    """Look-ups at drawn times, by whom and for whom is drawn, too."""
    plan = world.plan
    rng = random.Random(f"look-ups {plan.seed}")
    rate = plan.lookups * plan.nodes / plan.measured_s
    found: list[Lookup] = []
    async with asyncio.TaskGroup() as group:
        passing = group.create_task(_pass(plan.measured_s, plan, tell))
        while True:
            await asyncio.sleep(rng.expovariate(rate))
            if passing.done():
                return found
            settled = world.online(LOOKED_FOR, for_s=SETTLED_S)
            reader, author = rng.sample(settled, 2)
            group.create_task(_look_up_one(world, reader, author, found))


async def _look_up_one(world: World, reader: Session, author: Session, found: list[Lookup]) -> None:
    """Counts unless one of the two leaves meanwhile."""
    loop = asyncio.get_running_loop()
    purpose.set(LOOKUPS)
    asked_at = loop.time()
    newest = author.person.sequence
    try:
        answer = await reader.find(author.person)
    except Exception as error:  # noqa: BLE001 - whatever it is, the seed repeats it
        world.crashed(reader.person, error)
        return
    if not (world.here(reader) and world.here(author)):
        return
    if answer.forged:
        world.break_("nothing-forged", f"{reader.person.name} believed a forged record")
    if loop.time() - asked_at > world.limits.lookup_s + ROUNDING_S:
        world.break_("look-ups-end", f"of {reader.person.name}: {loop.time() - asked_at:.1f} s")
    outcome = "forged" if answer.forged else "nothing"
    if answer.sequence is not None and not answer.forged:
        outcome = "found" if answer.sequence >= newest else "stale"
    one = Lookup(
        asked_at,
        reader.person.name,
        author.person.name,
        asked_at - author.began,
        outcome,
        answer.hops if outcome == "found" else None,
        answer.messages,
        answer.first_s,
        loop.time() - asked_at,
    )
    found.append(one)
    world.network.note(
        f"{one.reader} {one.author} {one.outcome} {one.hops} {one.messages} {one.seconds:.6f}"
    )
