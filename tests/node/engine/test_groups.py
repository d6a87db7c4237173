"""Groups as users live them: create, invite, talk, leave, remove; each a timeline."""

from __future__ import annotations

import mls_rs
import pytest

from node.engine import commands as c
from node.engine import values as v
from schemas.errors import Fault, Refused
from tests.node.engine.world import World


def test_three_people_talk(world: World, suite: int) -> None:
    ada, bob, cy = world.friends("ada", "bob", "cy")
    group = ada.create("tea", suite, bob, cy)
    world.settle()

    for invited in (bob, cy):
        (request,) = invited.ask(c.ListRequests())
        assert (request.group_name, request.inviter_name) == ("tea", "ada")
        with pytest.raises(Fault) as caught:
            invited.send(group, "too soon")
        assert caught.value.code == "not-accepted"
        assert invited.ask(c.Join(group)).name == "tea"

    first = ada.send(group, "hello")
    world.settle()
    assert bob.read() == ["hello"]
    assert cy.read() == ["hello"]
    bob.send(group, "hi ada")
    cy.send(group, "hi all")
    world.settle(5)
    assert sorted(ada.read()) == ["hi ada", "hi all"]
    assert bob.read() == ["hi all"]
    assert bob.read() == []
    assert ada.states(first) == {"bob": "read", "cy": "read"}

    views = [person.view(group) for person in (ada, bob, cy)]
    assert {view.epoch_id for view in views} == {views[0].epoch_id}
    assert [member.role for member in views[1].members] == ["admin", "member", "member"]


def test_delivered_never_comes_from_a_link_ack(world: World, suite: int) -> None:
    ada, bob = world.friends("ada", "bob")
    group = ada.create("tea", suite, bob)
    world.settle()
    bob.ask(c.Join(group))
    world.settle(3)
    message = ada.send(group, "hello")
    world.deliver = lambda sender, recipient: sender is ada  # bob's summaries are blocked
    world.settle(200)
    assert bob.read() == ["hello"]
    assert ada.states(message) == {"bob": "sent"}
    (why,) = ada.ask(c.Why(message.hex()))
    assert "has not confirmed" in why.sentence
    world.deliver = lambda sender, recipient: True
    world.settle(5)
    assert ada.states(message) == {"bob": "read"}
    assert ada.ask(c.Why(message.hex())) == ()


def test_receipts_come_at_once_over_links(world: World) -> None:
    ada, bob = world.friends("ada", "bob")
    group = ada.create("tea", mls_rs.CLASSIC, bob)
    world.settle()
    bob.ask(c.Join(group))
    world.link(ada, bob)
    message = ada.send(group, "hello")
    world.settle()
    assert ada.states(message) == {"bob": "delivered"}
    bob.read()
    world.settle()
    assert ada.states(message) == {"bob": "read"}


def test_no_receipt_before_the_invitation_is_accepted(world: World) -> None:
    ada, bob = world.friends("ada", "bob")
    group = ada.create("tea", mls_rs.CLASSIC, bob)
    message = ada.send(group, "early")
    world.settle(30)
    assert ada.states(message) == {"bob": "sent"}
    assert bob.read() == []
    bob.ask(c.Join(group))
    world.settle(5)
    assert ada.states(message) == {"bob": "delivered"}
    assert bob.read() == ["early"]


def test_messages_before_the_commit_and_before_the_welcome_wait(world: World, suite: int) -> None:
    ada, bob, cy = world.friends("ada", "bob", "cy")
    group = ada.create("tea", suite, bob)
    world.settle()
    bob.ask(c.Join(group))
    ada.invite(group, cy)
    ada.send(group, "for the new epoch")
    for recipient in (bob, cy):
        parcels = world.take(ada, recipient)
        world.hand(ada, recipient, list(reversed(parcels)))
    assert bob.read() == ["for the new epoch"]
    cy.ask(c.Join(group))
    assert cy.read() == ["for the new epoch"]


def test_late_messages_of_past_epochs_are_read(world: World, suite: int) -> None:
    ada, bob, cy = world.friends("ada", "bob", "cy")
    group = ada.create("tea", suite, bob, cy)
    world.settle()
    bob.ask(c.Join(group))
    bob.send(group, "slow")
    slow = world.take(bob, ada)
    for _ in range(3):
        ada.ask(c.UpdateKey(group))
        world.settle()
    world.hand(bob, ada, slow)
    assert ada.read() == ["slow"]


def test_late_message_of_somebody_removed_since_is_read(world: World, suite: int) -> None:
    ada, bob, cy = world.friends("ada", "bob", "cy")
    group = ada.create("tea", suite, bob, cy)
    world.settle()
    bob.ask(c.Join(group))
    bob.send(group, "my last words")
    slow = world.take(bob, ada)
    ada.ask(c.RemoveMember(group, bob.identity))
    world.hand(bob, ada, slow)
    assert ada.read() == ["my last words"]


def test_removed_member_reads_nothing_later(world: World, suite: int) -> None:
    ada, bob, cy = world.friends("ada", "bob", "cy")
    group = ada.create("tea", suite, bob, cy)
    world.settle()
    for person in (bob, cy):
        person.ask(c.Join(group))
    with pytest.raises(Fault) as caught:
        bob.ask(c.RemoveMember(group, cy.identity))
    assert caught.value.code == "not-an-admin"
    ada.ask(c.RemoveMember(group, bob.identity))
    world.settle()
    ada.send(group, "without bob")
    world.settle()
    assert cy.read() == ["without bob"]
    assert bob.read() == []
    assert bob.view(group).status is v.GroupStatus.REMOVED
    with pytest.raises(Fault) as caught:
        bob.send(group, "still here?")
    assert caught.value.code == "not-a-member"


def test_leaving_is_carried_by_one_of_the_others(world: World, suite: int) -> None:
    ada, bob, cy = world.friends("ada", "bob", "cy")
    group = ada.create("tea", suite, bob, cy)
    world.settle()
    for person in (bob, cy):
        person.ask(c.Join(group))
    world.settle(1)
    assert bob.ask(c.Leave(group)).status is v.GroupStatus.LEAVING
    world.settle(10)
    assert bob.view(group).status is v.GroupStatus.LEFT
    for person in (ada, cy):
        view = person.view(group)
        assert {member.name for member in view.members} == {"ada", "cy"}
        assert view.status is v.GroupStatus.ACTIVE
    ada.send(group, "just us")
    world.settle()
    assert cy.read() == ["just us"]


def test_declined_invitation_takes_us_out(world: World) -> None:
    ada, bob = world.friends("ada", "bob")
    group = ada.create("tea", mls_rs.CLASSIC, bob)
    world.settle()
    bob.ask(c.Leave(group))
    world.settle(10)
    assert [member.name for member in ada.view(group).members] == ["ada"]
    assert bob.ask(c.ListRequests()) == ()


def test_invited_again_after_leaving(world: World, suite: int) -> None:
    ada, bob = world.friends("ada", "bob")
    group = ada.create("tea", suite, bob)
    world.settle()
    bob.ask(c.Join(group))
    bob.send(group, "one")
    world.settle(2)
    ada.ask(c.RemoveMember(group, bob.identity))
    world.settle(2)
    ada.invite(group, bob)
    world.settle(2)
    bob.ask(c.Join(group))
    bob.send(group, "two")
    ada.send(group, "welcome back")
    world.settle(2)
    assert ada.read() == ["one", "two"]
    assert bob.read() == ["welcome back"]


def test_direct_group_of_contacts_needs_no_join_and_has_two(world: World, suite: int) -> None:
    ada, bob, cy = world.friends("ada", "bob", "cy")
    view = ada.ask(c.CreateDirect(bob.identity, suite, (bob.key_package(suite),)))
    assert view.name == "bob"
    ada.send(view.group, "psst")
    world.settle()
    assert bob.read() == ["psst"]
    found = bob.ask(c.FindDirect(ada.identity))
    assert found is not None
    assert found.name == "ada"
    with pytest.raises(Fault) as caught:
        ada.invite(view.group, cy)
    assert caught.value.code == "direct-group"


def test_strangers_direct_message_is_a_request(world: World) -> None:
    ada, bob = world.person("ada"), world.person("bob")
    ada.knows(bob)
    view = ada.ask(c.CreateDirect(bob.identity, mls_rs.CLASSIC, (bob.key_package(mls_rs.CLASSIC),)))
    ada.send(view.group, "you do not know me")
    world.settle()
    assert bob.read() == []
    (request,) = bob.ask(c.ListRequests())
    assert not request.inviter_is_contact
    bob.ask(c.Join(view.group))
    assert bob.read() == ["you do not know me"]


def test_both_create_a_direct_group_and_use_one(world: World) -> None:
    ada, bob = world.friends("ada", "bob")
    suite = mls_rs.CLASSIC
    ada.ask(c.CreateDirect(bob.identity, suite, (bob.key_package(suite),)))
    bob.ask(c.CreateDirect(ada.identity, suite, (ada.key_package(suite),)))
    world.settle()
    mine, theirs = ada.ask(c.FindDirect(bob.identity)), bob.ask(c.FindDirect(ada.identity))
    assert mine is not None
    assert theirs is not None
    assert mine.group == theirs.group


def test_members_who_never_met_can_reach_each_other(world: World, suite: int) -> None:
    ada, bob, cy = world.person("ada"), world.person("bob"), world.person("cy")
    ada.knows(bob, cy)
    group = ada.create("tea", suite, bob, cy)
    world.settle()
    bob.ask(c.Join(group))
    cy.ask(c.Join(group))
    world.deliver = lambda sender, recipient: ada not in (sender, recipient)
    bob.send(group, "without ada")
    world.settle()
    assert cy.read() == ["without ada"]
    assert cy.ask(c.FindPerson("bob")) == bob.identity


def test_wrong_suite_key_package_is_refused_with_the_reason(world: World) -> None:
    ada, bob = world.friends("ada", "bob")
    group = ada.create("tea", mls_rs.HYBRID)
    with pytest.raises(Fault) as caught:
        ada.ask(c.Invite(group, (bob.identity,), (bob.key_package(mls_rs.CLASSIC),)))
    assert caught.value.code == "no-key-package"
    assert "bob" in caught.value.message


def test_order_is_the_same_everywhere(world: World) -> None:
    ada, bob, cy = world.friends("ada", "bob", "cy")
    group = ada.create("tea", mls_rs.CLASSIC, bob, cy)
    world.settle()
    for person in (bob, cy):
        person.ask(c.Join(group))
    for number in range(5):
        for person in (ada, bob, cy):
            person.send(group, f"{person.name} {number}")
    world.settle()
    orders = [
        [m.text for m in person.ask(c.ReadMessages("default", group)) if "cy" not in m.text]
        for person in (cy,)
    ]
    ours = [m.text for m in ada.ask(c.ReadMessages("default", group)) if "bob" in m.text]
    assert ours == [text for text in orders[0] if "bob" in text]


def test_message_that_waited_too_long_for_its_welcome_is_taken_when_it_comes_again(
    world: World,
) -> None:
    ada, bob = world.friends("ada", "bob")
    group = ada.create("tea", mls_rs.CLASSIC, bob)
    message = ada.send(group, "patience")
    welcome, *others = world.take(ada, bob)
    (early,) = [parcel for parcel in others if parcel is others[-1]]
    world.hand(ada, bob, [early])
    world.later(3 * 86_400)  # strangers' early messages are kept for a day
    world.hand(ada, bob, [welcome])
    bob.ask(c.Join(group))
    assert bob.read() == []
    ada.ask(c.Tick())
    world.settle(5)
    assert bob.read() == ["patience"]
    world.settle(70)
    assert ada.states(message) == {"bob": "read"}


def test_wish_that_cannot_be_carried_does_not_stop_the_clock(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada, bob = world.friends("ada", "bob")
    group = ada.create("tea", mls_rs.CLASSIC, bob)
    world.settle()
    bob.ask(c.Join(group))
    bob.ask(c.Leave(group))
    monkeypatch.setattr(
        "node.engine.groups.authority.authorise",
        lambda *_: (_ for _ in ()).throw(Refused("x", "no")),
    )
    world.settle(5)
    message = ada.send(group, "tick tock")
    world.settle(400)
    assert ada.states(message) == {"bob": "delivered"}
    monkeypatch.undo()
    world.settle(120)
    assert [member.name for member in ada.view(group).members] == ["ada"]
