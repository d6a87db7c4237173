"""A relay passes one parcel off as another: refused, and the good copy still counts."""

from __future__ import annotations

import dataclasses

import mls_rs

from node.engine import commands as c
from node.engine import values as v
from schemas.ids import ParcelId
from tests.node.engine.test_hostile import verdict
from tests.node.engine.world import World


def test_a_parcel_counts_under_its_own_id_only(world: World) -> None:
    """Else its acknowledgement would be another parcel's, which nobody has."""
    ada, bob = world.friends("ada", "bob")
    group = ada.create("tea", mls_rs.CLASSIC, bob)
    world.settle()
    bob.ask(c.Join(group))
    world.settle(2)
    ada.send(group, "one")
    (parcel,) = world.take(ada, bob)
    other = dataclasses.replace(parcel, id=ParcelId(bytes(15) + b"\1"))
    assert verdict(bob, other) == v.Rejected("wrong-parcel-id", garbage=True)
    assert bob.read() == []
    assert verdict(bob, parcel) == v.Accepted()
    assert bob.read() == ["one"]
