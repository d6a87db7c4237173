"""Blocked people are not seen and not told; groups shared with them go on. And requests."""

from __future__ import annotations

from typing import Any

import mls_rs
import pytest

from node.engine import commands as c
from node.engine import delivery_commands as d
from node.engine import values as v
from schemas.errors import Fault
from schemas.ids import GroupId
from schemas.parcels import IntentContent, SummaryContent
from tests.node.engine.test_hostile import reopen
from tests.node.engine.world import Person, World

K = mls_rs.CLASSIC


def counted(person: Person, *batch: c.Command[Any]) -> list[str]:
    """What the batch dropped."""
    effects = person.engine.run(batch, person.world.now).effects
    return [effect.reason for effect in effects if isinstance(effect, v.Counted)]


def three(world: World) -> tuple[Person, Person, Person, GroupId]:
    ada, bob, mal = people = world.friends("ada", "bob", "mal")
    return ada, bob, mal, world.tea(people)


def test_invitation_of_somebody_blocked_is_dropped_and_counted(world: World) -> None:
    ada, mal = world.friends("ada", "mal")
    ada.ask(c.Block(mal.identity))
    group = mal.create("spam", K, ada)
    message = mal.send(group, "buy this")
    parcels = world.take(mal, ada)
    assert counted(ada, d.Arrived(parcels[0], "relay")) == ["blocked-invitation"]
    world.hand(mal, ada, parcels)
    world.settle(90)
    assert ada.ask(c.ListRequests()) == ()
    assert ada.ask(c.ListGroups()) == ()
    assert ada.read() == []
    assert mal.states(message) == {"ada": "sent"}  # as if nobody looked at the invitation


def test_request_that_was_there_before_is_hidden_until_unblocked(world: World) -> None:
    ada, mal = world.friends("ada", "mal")
    mal.create("spam", K, ada)
    world.settle()
    ada.ask(c.Block(mal.identity))
    assert ada.ask(c.ListRequests()) == ()
    ada.ask(c.Unblock(mal.identity))
    assert len(ada.ask(c.ListRequests())) == 1


def test_one_to_one_messages_wait_outside_and_come_when_unblocked(world: World) -> None:
    ada, mal = world.friends("ada", "mal")
    view = ada.ask(c.CreateDirect(mal.identity, K, (mal.key_package(K),)))
    ada.send(view.group, "hello")
    world.settle()
    mal.read()
    world.settle(2)
    ada.ask(c.Block(mal.identity))
    with pytest.raises(Fault) as caught:
        ada.send(view.group, "not meant")
    assert caught.value.code == "blocked"
    message = mal.send(view.group, "rude")
    world.settle(90)
    assert ada.read() == []
    assert mal.states(message) == {"ada": "sent"}  # no receipt: ada looks away
    assert not any(event.kind == "message" for event in ada.events)

    ada.ask(c.Unblock(mal.identity))
    for _ in range(4):
        world.later(3600)
        world.settle()
    assert ada.read() == ["rude"]


def test_shared_group_goes_on_without_their_words(world: World) -> None:
    ada, bob, mal, group = three(world)
    ada.ask(c.Block(mal.identity))
    hidden = mal.send(group, "not for ada")
    mal.ask(c.UpdateKey(group))  # their commit counts
    mal.send(group, "nor this")
    world.settle(70)
    assert ada.view(group).epoch_id == bob.view(group).epoch_id == mal.view(group).epoch_id
    assert ada.read() == []
    assert bob.read() == ["not for ada", "nor this"]
    assert mal.states(hidden)["ada"] == "sent"
    assert mal.states(hidden)["bob"] != "sent"
    bob.send(group, "still here")
    world.settle()
    assert ada.read() == ["still here"]
    mal.ask(c.SetName("mallory"))  # keys of a member are needed, whoever they are
    world.settle()
    assert ada.ask(d.LookUpPeer(mal.device)).name == "mallory"


def test_links_bundles_and_key_packages_are_refused_as_if_away(world: World) -> None:
    ada, mal = world.friends("ada", "mal")
    world.link(ada, mal)
    result = ada.engine.run([c.Block(mal.identity)], world.now)
    assert v.LinkUnwanted(mal.device) in result.effects
    refusals: tuple[c.Command[Any], ...] = (
        d.OwnHello("127.0.0.1:1", mal.device),
        d.LinkUp(mal.device, mal.ask(d.OwnHello("127.0.0.1:1"))),
    )
    for refused in refusals:
        with pytest.raises(Fault) as caught:
            ada.ask(refused)
        assert caught.value.code == "away"
    with pytest.raises(Fault) as caught:
        ada.ask(d.AnswerKeyPackage(mal.device, K, b"r" * 16))
    assert caught.value.code == "no-key-package"
    assert ada.ask(d.AnswerBundle(ada.identity, 0, mal.device)).core is None
    number = ada.ask(d.KnownNumber(mal.identity))
    mal.ask(c.SetName("other"))
    world.settle()
    assert ada.ask(d.KnownNumber(mal.identity)) == number
    assert mal.device not in ada.ask(d.PeersToGreet())
    ada.ask(c.SetName("ada the second"))
    assert world.take(ada, mal) == []


def test_blocking_rotates_what_they_could_find_us_by(world: World) -> None:
    ada, bob, mal = world.friends("ada", "bob", "mal")
    ada.ask(c.Block(mal.identity))
    world.settle()
    secret = ada.engine._core.people.secret("discovery_secret")
    assert bob.engine._core.people.discovery_secret(ada.identity) == secret
    assert mal.engine._core.people.discovery_secret(ada.identity) != secret


def test_who_is_blocked_is_listed(world: World) -> None:
    ada, mal = world.friends("ada", "mal")
    ada.ask(c.Block(mal.identity))
    (view,) = ada.ask(c.ListBlocked())
    assert (view.identity, view.name) == (mal.identity, "mal")
    ada.ask(c.Unblock(mal.identity))
    with pytest.raises(Fault) as caught:
        ada.ask(c.Unblock(mal.identity))
    assert caught.value.code == "not-blocked"


def test_nothing_is_sent_to_a_group_before_it_is_accepted(world: World) -> None:
    ada, bob, cy = world.friends("ada", "bob", "cy")
    group = ada.create("tea", K, bob, cy)
    ada.send(group, "hello")
    world.settle()
    world.later(7 * 86_400)
    for other in (ada, cy):
        bodies = [reopen(other, parcel) for parcel in world.take(bob, other)]
        assert [body for body in bodies if body.group == group] == []
    assert bob.summaries == []
    bob.ask(c.Leave(group))
    kinds = {type(reopen(ada, p).content) for p in world.take(bob, ada)}
    assert IntentContent in kinds
    assert SummaryContent not in kinds
