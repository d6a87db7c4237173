"""The engine may hand a parcel out again that the courier still has: it is carried once."""

from __future__ import annotations

from collections import Counter
from typing import Any, cast

from node.delivery.courier import Means, _Courier
from node.delivery.limits import DEFAULT_DELIVERY_LIMITS
from node.delivery.turns import Turns
from node.engine import commands as c
from node.engine import delivery_commands as d
from node.engine import values as v
from schemas.ids import ParcelId
from tests.node.delivery.support import FakeNodes, eventually, linked, stranger


async def test_a_parcel_handed_out_twice_is_carried_once_and_its_ack_counts(
    nodes: FakeNodes,
) -> None:
    a, b = await nodes(), await nodes()
    await linked(a, b)
    await a.outcomes(a.post(b.engine))
    b.engine.gate.clear()  # no ack yet
    [parcel] = a.post(b.engine)
    await eventually(lambda: len(b.engine.arrived) == 2)
    item = a.engine.out[parcel]
    takes = a.engine.count(d.TakeDue)
    a.engine.due[b.engine.key][parcel] = item  # the engine has forgotten that it is out
    [other] = a.post(b.engine)
    await eventually(lambda: a.engine.count(d.TakeDue) > takes and other in a.engine.out)
    b.engine.gate.set()
    outcomes = await a.outcomes([parcel, other])
    assert all(outcome.acked for outcome in outcomes)
    assert len(a.engine.outcomes[parcel]) == 1, "`under-way` was said of it before its ack"


async def test_what_is_handed_out_twice_is_counted_once() -> None:
    """Or the window is never free again."""
    device = stranger()
    item = v.OutboxItem(ParcelId(bytes(16)), device, bytes(1000), bytes(1216), 2**37)

    class Desk:
        reported: list[d.Outcome] = []  # noqa: RUF012 - one test

        def report(self, outcome: d.Outcome) -> None:
            self.reported.append(outcome)

    async def ask(_: c.Command[Any]) -> tuple[v.OutboxItem, ...]:
        return (item,)

    nothing = cast(Any, None)
    means = Means(
        cast(Any, ask),
        nothing,
        nothing,
        nothing,
        nothing,
        nothing,
        nothing,
        nothing,
        cast(Any, Desk()),
        DEFAULT_DELIVERY_LIMITS,
        Counter(),
    )
    courier = _Courier(device, means, Turns(1), nothing, lambda: False)
    assert await courier._take() == [item]
    assert await courier._take() == []
    courier._settle(d.Outcome(item.parcel, acked=True))
    courier._settle(d.Outcome(item.parcel, reason="late"))
    assert Desk.reported == [d.Outcome(item.parcel, acked=True)]
    assert courier._out_bytes == 0
