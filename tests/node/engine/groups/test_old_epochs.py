"""What was sealed long ago is sealed again when its reader has no keys for that time any more."""

from __future__ import annotations

import mls_rs
import pytest

from node.engine import commands as c
from tests.node.engine.world import World


def test_message_of_an_epoch_long_gone_arrives_all_the_same(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("schemas.limits.SNAPSHOT_EPOCHS", 2)
    monkeypatch.setattr("node.store.groups.KEPT_EPOCHS", 2)
    people = ada, bob, cy = world.friends("ada", "bob", "cy")
    group = ada.create("tea", mls_rs.CLASSIC, bob, cy)
    world.settle()
    for person in (bob, cy):
        person.ask(c.Join(group))
    world.settle(2)
    world.deliver = lambda sender, recipient: ada not in (sender, recipient)
    message = ada.send(group, "from the train")
    for _ in range(20):
        bob.ask(c.UpdateKey(group))
        world.settle()
    for person in people:
        person.restart()
    parcels = world.take(ada, cy)
    world.hand(ada, cy, parcels)  # before ada hears of anything
    assert ada.states(message)["cy"] != "refused"
    world.deliver = lambda sender, recipient: True
    world.settle(60)
    assert cy.read() == ["from the train"]
    assert bob.read() == ["from the train"]
    world.settle(70)
    assert ada.states(message) == {"bob": "read", "cy": "read"}
