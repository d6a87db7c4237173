"""A receipt that is owed outlives the process: its author's ledger must not stand still."""

from __future__ import annotations

from pathlib import Path

import mls_rs

from node.engine import commands as c
from node.engine import delivery_commands as d
from node.engine import values as v
from tests.node.engine.world import World

WEEK_S = 7 * 86_400


def test_a_receipt_is_owed_over_a_restart_also_to_whom_no_link_leads(tmp_path: Path) -> None:
    """By way of the relay, nothing else would ask for it: the copy there is good for days."""
    world = World(tmp_path)
    ada, bob = world.friends("Ada", "Bob")
    group = ada.create("harbour", mls_rs.CLASSIC, bob)
    world.settle()
    bob.ask(c.Join(group))
    message = ada.send(group, "hello")
    (parcel,) = world.take(ada, bob)
    held = d.Outcome(parcel.id, held=("a relay", int(world.now) + WEEK_S))
    ada.ask(d.ReportOutcomes((held,)))
    assert isinstance(bob.ask(d.Arrived(parcel, "relay")), v.Accepted)

    bob.restart()  # within the moment for which receipts are gathered

    world.settle(5.0)
    assert ada.states(message) == {"Bob": "delivered"}
    told = list(bob.database.execute("SELECT count(*) FROM watermarks WHERE owed = 1"))
    assert told == [(0,)], "told again with every start"
