"""What is due happens, however many batches come between and set the timer anew."""

from __future__ import annotations

from typing import Any

import mls_rs

from node.engine import commands as c
from node.engine import delivery_commands as d
from node.engine import values as v
from node.engine.engine import LONGEST_WAIT_S
from schemas.ids import DeviceKey
from tests.node.engine.world import Person, World

RETRY_S = 5.0


def ready(person: Person, *batch: c.Command[Any]) -> frozenset[DeviceKey]:
    result = person.engine.run(batch, person.world.now)
    found = [e.devices for e in result.effects if isinstance(e, v.OutboxReady)]
    return frozenset().union(*found)


def test_a_batch_between_the_time_and_its_timer_does_not_put_off_what_is_due(world: World) -> None:
    """Each batch sets the timer for what comes next; what came meanwhile must be told by it."""
    ada, bob = world.friends("ada", "bob")
    group = ada.create("tea", mls_rs.CLASSIC, bob)
    world.settle()
    bob.ask(c.Join(group))
    world.settle(400.0)
    ada.send(group, "hello")
    [parcel] = world.take(ada, bob)
    lost = d.Outcome(parcel.id, reason="connection-lost", retry_after_s=RETRY_S)
    ada.ask(d.ReportOutcomes((lost,)))
    world.now += RETRY_S - 0.5
    assert bob.device not in ready(ada, c.WhoAmI())
    world.now += 0.501
    assert bob.device in ready(ada, c.WhoAmI())
    assert [again.id for again in world.take(ada, bob)] == [parcel.id]


def test_a_node_that_is_never_idle_ticks_all_the_same(world: World) -> None:
    [ada] = world.friends("ada")
    ada.ask(c.Tick())
    ticks = 0
    for _ in range(3 * int(LONGEST_WAIT_S)):
        world.now += 1.0
        before = ada.engine._tick_at
        wake_at = ada.engine.run([c.WhoAmI()], world.now).wake_at
        assert wake_at > world.now
        ticks += world.now >= before
    assert ticks >= 2
