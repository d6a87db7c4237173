"""Where mail is read: moving from relay to relay, and following others who move."""

from __future__ import annotations

import dataclasses

import pytest

from identity.bundle import sign_bundle
from identity.relay_statement import open_relay_statement_untrusted
from identity.signing import sign
from node.engine import commands as c
from node.engine import delivery_commands as d
from node.engine import relay_commands as r
from node.engine import values as v
from node.engine.relays import READ_AT_LEAST_S, READ_AT_MOST_S
from schemas.addresses import RelayAddress
from schemas.errors import Malformed, Refused
from schemas.records import RelayStatement, Signed, SignedType
from tests.node.engine.world import Person, World

OLD, NEW, THIRD = (f"relay{n}.example:7000#{n * 32}" for n in ("aa", "bb", "cc"))


def relays_of(reader: Person, other: Person) -> list[str]:
    return list(reader.ask(d.LookUpPeer(other.device)).relays)


def former(person: Person) -> list[str]:
    return [view.relay for view in person.ask(r.ListFormerRelays())]


def statement_of(person: Person, number: int, *relays: str) -> Signed:
    content = RelayStatement(person.identity, number, tuple(map(RelayAddress.parse, relays)))
    return sign(SignedType.RELAY_STATEMENT, person.engine.identity, content.encode())


def friends_at(world: World, *relays: str) -> tuple[Person, Person]:
    ada, bob = world.friends("ada", "bob")
    bob.ask(r.SetRelays(relays))
    ada.knows(bob)
    return ada, bob


def test_the_statement_says_what_the_bundle_says(world: World) -> None:
    ada = world.person("ada")
    ada.ask(r.SetRelays((OLD,)))
    ada.ask(r.ChangeRelays(add=(NEW,), first=True))
    statement = open_relay_statement_untrusted(ada.ask(r.OwnRelayStatement()))
    assert list(map(str, statement.relays)) == [NEW, OLD] == list(ada.ask(c.WhoAmI()).relays)
    assert statement.number == ada.engine._core.people.bundle_number(ada.identity)


def test_relays_are_added_behind_and_dropped_by_name(world: World) -> None:
    ada = world.person("ada")
    ada.ask(r.ChangeRelays(add=(OLD,)))
    ada.ask(r.ChangeRelays(add=(NEW, THIRD), drop=(OLD,)))
    assert ada.ask(c.WhoAmI()).relays == (NEW, THIRD)
    assert former(ada) == [OLD]
    with pytest.raises(Refused, match="not a relay of this node"):
        ada.ask(r.ChangeRelays(drop=(f"x.example:1#{'dd' * 32}",)))
    ada.ask(r.ChangeRelays(add=(OLD,)))
    assert former(ada) == [], "what is ours again is not one that was"
    ada.ask(r.ChangeRelays(drop=(THIRD,), at_once=True))
    assert former(ada) == []


def test_a_relay_is_left_when_it_is_empty_and_all_know(world: World) -> None:
    ada, bob = friends_at(world, OLD)
    world.settle()
    bob.ask(r.SetRelays((NEW,)))
    assert former(bob) == [OLD]
    world.later(READ_AT_LEAST_S + 1)
    bob.ask(r.FormerRelayEmpty(OLD))
    assert former(bob) == [OLD], "ada's node does not know yet: her mail may go there"
    world.settle()
    assert relays_of(ada, bob) == [NEW]
    bob.ask(r.FormerRelayEmpty(OLD))
    assert former(bob) == []
    assert [e.fields["relay"] for e in bob.events if e.kind == "relay-left"] == [OLD]


def test_a_relay_is_not_left_while_parcels_may_be_under_way_to_it(world: World) -> None:
    _, bob = friends_at(world, OLD)
    bob.ask(r.SetRelays((NEW,)))
    world.settle()
    bob.ask(r.FormerRelayEmpty(OLD))
    assert former(bob) == [OLD]


def test_a_relay_that_is_dead_is_given_up_when_no_parcel_there_can_live(world: World) -> None:
    bob = world.person("bob")
    bob.ask(r.SetRelays((OLD,)))
    bob.ask(r.SetRelays((NEW,)))
    world.later(READ_AT_MOST_S - 2 * 86_400)
    assert former(bob) == [OLD]
    bob.restart()
    assert former(bob) == [OLD]
    world.later(3 * 86_400)
    assert former(bob) == []


def test_a_statement_moves_the_mail_that_waits(world: World) -> None:
    """The relay that held it may be gone; what waits at home does not wait for its next try."""
    ada, bob = friends_at(world, OLD)
    group = ada.create("tea", 1, bob)
    world.settle()
    bob.ask(c.Join(group))
    world.settle()
    ada.send(group, "held")
    [held] = ada.ask(d.TakeDue(bob.device))
    ada.ask(d.ReportOutcomes((d.Outcome(held.parcel, held=(OLD, int(world.now) + 604_800)),)))
    ada.send(group, "in vain")
    [failed] = ada.ask(d.TakeDue(bob.device))
    ada.ask(d.ReportOutcomes((d.Outcome(failed.parcel, reason="relay-unreachable"),)))
    assert ada.ask(d.TakeDue(bob.device)) == ()

    bob.ask(r.SetRelays((NEW,)))
    result = ada.engine.run([r.ReceiveRelayStatement(bob.ask(r.OwnRelayStatement()))], world.now)
    assert result.answers == (True,)
    ready = [e.devices for e in result.effects if isinstance(e, v.OutboxReady)]
    assert ready == [frozenset({bob.device})], "couriers start at once"
    assert relays_of(ada, bob) == [NEW]
    assert {i.parcel for i in ada.ask(d.TakeDue(bob.device))} == {held.parcel, failed.parcel}


def test_what_the_old_relay_took_meanwhile_is_handed_over_too(world: World) -> None:
    """The news came between the parcel's leaving and the old relay's answer."""
    ada, bob = friends_at(world, OLD)
    group = ada.create("tea", 1, bob)
    world.settle()
    bob.ask(c.Join(group))
    world.settle()
    ada.send(group, "under way")
    [item] = ada.ask(d.TakeDue(bob.device))
    bob.ask(r.SetRelays((NEW,)))
    ada.ask(r.ReceiveRelayStatement(bob.ask(r.OwnRelayStatement())))
    ada.ask(d.ReportOutcomes((d.Outcome(item.parcel, held=(OLD, int(world.now) + 604_800)),)))
    assert [each.parcel for each in ada.ask(d.TakeDue(bob.device))] == [item.parcel]
    ada.ask(d.ReportOutcomes((d.Outcome(item.parcel, held=(NEW, int(world.now) + 604_800)),)))
    assert ada.ask(d.TakeDue(bob.device)) == ()


def test_what_a_card_or_record_says_is_asked_and_takes_no_mail(world: World) -> None:
    """They may name a relay that is not read any more: a parcel there would lie for a week."""
    bob = world.person("bob")
    bob.ask(r.SetRelays((OLD,)))
    bob.ask(d.SetEndpoint(()))
    ada = world.person("ada")
    ada.ask(c.AddContact(bob.ask(c.WhoAmI()).card))
    assert relays_of(ada, bob) == [OLD], "nothing better is known"
    core, endpoint = bob.ask(d.OwnRecords())
    ada.ask(d.ReceiveBundle(core, () if endpoint is None else (endpoint,)))
    bob.ask(r.SetRelays((NEW,)))
    ada.ask(r.ReceiveRelayStatement(bob.ask(r.OwnRelayStatement())))
    peer = ada.ask(d.LookUpPeer(bob.device))
    assert (peer.relays, peer.hint_relays) == ((NEW,), (OLD,))


def test_a_forged_statement_moves_nothing(world: World) -> None:
    ada, bob = friends_at(world, OLD)
    mal = world.person("mal")
    ada.knows(mal)
    good = statement_of(bob, 99, NEW)
    forged = dataclasses.replace(good, signature=bytes(64))
    by_mal = dataclasses.replace(statement_of(mal, 99, NEW), payload=good.payload)
    named_bob = sign(SignedType.RELAY_STATEMENT, mal.engine.identity, good.payload)
    other_kind = sign(SignedType.STATEMENT, bob.engine.identity, good.payload)
    for bad in (forged, by_mal, named_bob, other_kind):
        with pytest.raises(Malformed):
            ada.ask(r.ReceiveRelayStatement(bad))
    assert relays_of(ada, bob) == [OLD]


def test_an_old_statement_is_counted_and_moves_nothing_back(world: World) -> None:
    """A relay that shows what was true once gains no more than by showing nothing."""
    ada, bob = friends_at(world, OLD)
    old = bob.ask(r.OwnRelayStatement())
    bob.ask(r.SetRelays((THIRD,)))
    older = bob.ask(r.OwnRelayStatement())
    bob.ask(r.SetRelays((NEW,)))
    assert ada.ask(r.ReceiveRelayStatement(bob.ask(r.OwnRelayStatement())))
    for stale in (old, older):
        result = ada.engine.run([r.ReceiveRelayStatement(stale)], world.now)
        assert result.answers == (False,)
        assert v.Counted("relay-statement-stale") in result.effects
    assert relays_of(ada, bob) == [NEW]
    ada.restart()
    assert relays_of(ada, bob) == [NEW]


def test_the_newer_of_bundle_and_statement_counts(world: World) -> None:
    ada, bob = friends_at(world, OLD)
    number = bob.engine._core.people.bundle_number(bob.identity)
    assert ada.ask(r.ReceiveRelayStatement(statement_of(bob, number + 5, NEW)))
    base = bob.engine._core.people.bundle(bob.identity)
    assert base is not None
    between = dataclasses.replace(base[1], number=number + 3)
    ada.ask(d.ReceiveBundle(sign_bundle(bob.engine.identity, between)))
    assert relays_of(ada, bob) == [NEW], "that bundle is older than the statement"
    after = dataclasses.replace(base[1], number=number + 6, relays=(RelayAddress.parse(THIRD),))
    ada.ask(d.ReceiveBundle(sign_bundle(bob.engine.identity, after)))
    assert relays_of(ada, bob) == [THIRD]
    assert not ada.ask(r.ReceiveRelayStatement(statement_of(bob, number + 5, NEW)))
    assert relays_of(ada, bob) == [THIRD]


def test_strangers_statements_are_not_kept(world: World) -> None:
    ada, mal = world.person("ada"), world.person("mal")
    assert not ada.ask(r.ReceiveRelayStatement(statement_of(mal, 9, NEW)))
    assert ada.engine._core.db.value("SELECT count(*) FROM relay_statements") == 0
