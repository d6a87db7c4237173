"""A member whose node never acknowledges anything: what it costs the others, and for how long."""

from __future__ import annotations

import mls_rs
import pytest

from node.engine import commands as c
from node.engine.outbox import MESSAGE_LIFETIME_S
from schemas.ids import GroupId
from tests.node.engine.world import Person, World

MESSAGES = 60
COMMITS = 10


@pytest.fixture
def trio(world: World) -> tuple[Person, Person, Person, GroupId]:
    ada, bob, mal = world.friends("ada", "bob", "mal")
    group = ada.create("tea", mls_rs.CLASSIC, bob, mal)
    world.settle()
    for person in (bob, mal):
        person.ask(c.Join(group))
    world.settle(120)
    world.deliver = lambda sender, recipient: recipient is not mal
    return ada, bob, mal, group


def kinds(person: Person, recipient: Person) -> dict[str, int]:
    found = person.engine._core.db.rows(
        "SELECT p.kind, count(*) FROM outbox o JOIN payloads p ON p.id = o.payload"
        " WHERE o.recipient = ? GROUP BY p.kind",
        recipient.device,
    )
    return dict(found)


def test_it_holds_up_nobody_and_costs_a_row_for_each_message(
    world: World, trio: tuple[Person, Person, Person, GroupId]
) -> None:
    """A row for each that it misses, whose text the others share; no receipts pile up for it."""
    ada, bob, mal, group = trio
    for number in range(MESSAGES):
        ada.send(group, f"{number}")
        bob.send(group, f"and {number}")
        if number % (MESSAGES // COMMITS) == 0:
            ada.ask(c.UpdateKey(group))
        world.settle(30)
    world.settle(120)
    assert len(bob.read()) == len(ada.read()) == MESSAGES
    assert kinds(ada, bob) == {}, "what goes to Bob is not held up"
    waiting = kinds(ada, mal)
    assert waiting["message"] == MESSAGES
    assert waiting["commit"] == COMMITS
    others = sum(waiting.values()) - MESSAGES - COMMITS
    assert others <= 3, f"receipts pile up: {waiting}"
    # Trying again does not add anything.
    world.later(7_200)
    world.settle(60)
    assert kinds(ada, mal) == waiting


def test_after_a_month_it_is_given_up_and_told(
    world: World, trio: tuple[Person, Person, Person, GroupId]
) -> None:
    ada, bob, mal, group = trio
    sent = [ada.send(group, f"{number}") for number in range(5)]
    world.settle(60)
    world.later(MESSAGE_LIFETIME_S + 86_400)
    for message in sent:
        assert ada.states(message) == {"bob": "delivered", "mal": "expired"}
    assert kinds(ada, mal).get("message", 0) == 0
    held = ada.engine._core.db.value("SELECT count(*) FROM payloads WHERE kind = 'message'")
    assert held == 0
