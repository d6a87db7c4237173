"""Strangers may have so much waiting here and no more; what is refused, its sender is told."""

from __future__ import annotations

import mls_rs
import pytest

from node.engine import commands as c
from node.engine import delivery_commands as d
from node.engine import requests
from node.engine import values as v
from node.engine.requests import REQUEST_FULL, TOO_MANY_REQUESTS
from schemas.ids import GroupId, MessageId
from tests.node.engine.test_hostile import verdict
from tests.node.engine.world import Person, World

K = mls_rs.CLASSIC
RELAY = "r:1#" + "ab" * 32
OF_A_GROUP = (
    "SELECT m.name FROM sqlite_schema m JOIN pragma_table_info(m.name) c ON c.name = 'group_id'"
    " WHERE m.type = 'table' AND m.name <> 'seen_parcels'"
)


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests, "REQUESTS", 3)
    monkeypatch.setattr(requests, "MESSAGES", 5)


@pytest.fixture
def people(world: World) -> tuple[Person, Person]:
    """mal has ada's card; ada never heard of mal."""
    ada, mal = world.person("ada"), world.person("mal")
    mal.knows(ada)
    return ada, mal


def reason(person: Person, message: MessageId) -> str | None:
    (row,) = person.ask(c.ReadLedger(message.hex()))
    return row.reason


def why(person: Person, message: MessageId) -> str:
    (found,) = person.ask(c.Why(message.hex()))
    return f"{found.sentence} {found.action}"


def left_behind(person: Person) -> dict[str, int]:
    """How many rows there are about any group, by table."""
    db = person.engine._core.db
    tables = ["groups", *(row[0] for row in db.rows(OF_A_GROUP))]
    assert len(tables) > 15
    found = {table: db.value(f"SELECT count(*) FROM {table}") for table in tables}
    return {table: count for table, count in found.items() if count}


def fill(mal: Person, ada: Person) -> None:
    for number in range(requests.REQUESTS):
        mal.create(f"spam {number}", K, ada)
    mal.world.settle()
    assert len(ada.ask(c.ListRequests())) == requests.REQUESTS


def test_the_bounds_are_what_is_written() -> None:
    assert (requests.REQUESTS, requests.MESSAGES, requests.BYTES) == (100, 100, 256 * 1024)


@pytest.mark.usefixtures("few")
def test_one_request_too_many_is_refused_told_and_comes_when_there_is_room(
    world: World, people: tuple[Person, Person]
) -> None:
    ada, mal = people
    fill(mal, ada)
    group = mal.create("one more", K, ada)
    message = mal.send(group, "hello")
    world.settle(5)
    assert v.Rejected(TOO_MANY_REQUESTS) in [found for _, _, found in world.verdicts]
    assert len(ada.ask(c.ListRequests())) == len(ada.engine._core.groups.all()) == 3
    told = [event.fields for event in mal.events if event.kind == "refused"]
    assert [(f["group"], f["member"], f["reason"]) for f in told] == [
        (group.hex(), "ada", TOO_MANY_REQUESTS)
    ], "once, not at each try"
    assert reason(mal, message) == TOO_MANY_REQUESTS
    assert "Too many invitations" in why(mal, message)

    ada.ask(c.Join(ada.ask(c.ListRequests())[0].group))
    world.later(700)
    world.settle()
    assert group in [request.group for request in ada.ask(c.ListRequests())]
    assert reason(mal, message) is None
    ada.ask(c.Join(group))
    world.settle(5)
    assert ada.read(group) == ["hello"]
    assert mal.states(message)["ada"] in ("delivered", "read")


@pytest.mark.usefixtures("few")
def test_what_contacts_invite_to_is_not_counted(
    world: World, people: tuple[Person, Person]
) -> None:
    ada, mal = people
    bob = world.person("bob")
    bob.knows(ada)
    ada.knows(bob)
    for number in range(5):
        bob.create(f"with friends {number}", K, ada)
    world.settle()
    assert len(ada.ask(c.ListRequests())) == 5
    for number in range(3):
        mal.create(f"spam {number}", K, ada)
    world.settle()
    assert len(ada.ask(c.ListRequests())) == 8, "friends take no room of strangers"
    bob.create("one more with friends", K, ada)
    world.settle()
    assert len(ada.ask(c.ListRequests())) == 9, "strangers take no room of friends"


@pytest.mark.usefixtures("few")
def test_blocking_somebody_gives_their_room_back(
    world: World, people: tuple[Person, Person]
) -> None:
    ada, mal = people
    fill(mal, ada)
    cy = world.person("cy")
    cy.knows(ada)
    ada.ask(c.Block(mal.identity))
    cy.create("hello", K, ada)
    world.settle()
    assert [request.inviter_name for request in ada.ask(c.ListRequests())] == ["cy"]


@pytest.mark.usefixtures("few")
def test_messages_of_a_request_are_bounded_and_their_author_told(
    world: World, people: tuple[Person, Person], suite: int
) -> None:
    ada, mal = people
    group = mal.create("spam", suite, ada)
    messages = [mal.send(group, f"buy {number}") for number in range(7)]
    world.settle(5)
    assert ada.engine._core.messages.stored_since(group, 0)[0] == 5
    states = [mal.states(message)["ada"] for message in messages]
    assert states == ["sent"] * 5 + ["refused"] * 2
    assert reason(mal, messages[5]) == REQUEST_FULL
    assert "has not accepted" in why(mal, messages[5])

    mal.ask(c.UpdateKey(group))  # commits count all the same
    world.settle()
    assert ada.view(group).epoch_id == mal.view(group).epoch_id
    late = mal.send(group, "nor this")
    world.settle()
    assert mal.states(late) == {"ada": "refused"}

    ada.ask(c.Join(group))
    after = mal.send(group, "sorry")
    world.settle(5)
    assert ada.read(group) == [*(f"buy {number}" for number in range(5)), "sorry"]
    assert mal.states(after)["ada"] != "refused"
    assert [mal.states(message)["ada"] for message in messages[5:]] == ["refused"] * 2


@pytest.mark.usefixtures("few")
def test_messages_in_a_group_of_contacts_wait_as_long_as_it_takes(world: World) -> None:
    """A holiday must not cost the mail of one's friends."""
    ada, bob = world.friends("ada", "bob")
    group = bob.create("friends", K, ada)
    for number in range(10):
        bob.send(group, str(number))
    world.settle(5)
    ada.ask(c.Join(group))
    assert ada.read() == [str(number) for number in range(10)]


def test_large_messages_of_a_request_are_bounded_in_bytes(
    world: World, people: tuple[Person, Person]
) -> None:
    ada, mal = people
    group = mal.create("spam", K, ada)
    messages = [mal.send(group, "é" * 15_000) for _ in range(8)]
    world.settle(5)
    states = [mal.states(message)["ada"] for message in messages]
    assert set(states) == {"sent", "refused"}
    assert ada.engine._core.messages.stored_since(group, 0)[1] <= requests.BYTES


@pytest.mark.usefixtures("few")
def test_what_was_refused_over_a_relay_comes_after_joining(
    world: World, people: tuple[Person, Person]
) -> None:
    """A relay does not say what became of its copy: the author's own copy must not be lost."""
    ada, mal = people
    group = mal.create("spam", K, ada)
    world.settle()
    for number in range(7):
        mal.send(group, str(number))
    parcels = world.take(mal, ada)
    found = [verdict(ada, parcel) for parcel in parcels]
    assert found == [v.Accepted()] * 5 + [v.Rejected(REQUEST_FULL)] * 2
    until = int(world.now) + 7 * 86_400
    mal.ask(d.ReportOutcomes(tuple(d.Outcome(p.id, held=(RELAY, until)) for p in parcels)))
    ada.ask(c.Join(group))
    world.settle(15)
    mal.send(group, "7")
    world.settle(80)  # a receipt a minute, without a link: it tells which are missing
    assert sorted(ada.read(group)) == [str(number) for number in range(8)]


@pytest.mark.usefixtures("few")
def test_early_parcels_of_a_request_are_bounded_and_come_when_it_is_their_time(
    world: World, people: tuple[Person, Person]
) -> None:
    ada, mal = people
    group = mal.create("spam", K, ada)
    world.settle()
    for _ in range(9):
        mal.ask(c.UpdateKey(group))
    parcels = world.take(mal, ada)
    first, *others = parcels
    found = [verdict(ada, parcel) for parcel in reversed(others)]
    assert found == [v.Accepted()] * 5 + [v.Deferred(60.0)] * 3
    world.hand(mal, ada, [first, *others])
    assert ada.view(group).epoch_id == mal.view(group).epoch_id


def test_a_request_that_is_taken_back_leaves_nothing(
    world: World, people: tuple[Person, Person]
) -> None:
    """Else inviting and removing in turns would fill the disk, whatever the bound is."""
    ada, mal = people
    groups: list[GroupId] = []
    for number in range(3):
        groups.append(mal.create(f"spam {number}", K, ada))
        mal.send(groups[-1], "buy this")
        world.settle()
        assert left_behind(ada)["messages"] == 1
        mal.ask(c.RemoveMember(groups[-1], ada.identity))
        world.settle()
        assert left_behind(ada) == {}
    assert [event.kind for event in ada.events].count("removed") == 3
    ada.restart()
    assert ada.ask(c.ListGroups()) == ()

    mal.invite(groups[0], ada)
    mal.send(groups[0], "once more")
    world.settle()
    ada.ask(c.Join(groups[0]))
    answer = ada.send(groups[0], "no")
    world.settle(5)
    assert ada.read() == ["once more"]
    assert mal.read() == ["no"]
    assert ada.states(answer)["mal"] in ("delivered", "read")
