"""What a reviewer broke once: each of these failed before it was mended."""

from __future__ import annotations

import dataclasses

import mls_rs
import pytest

from identity.bundle import sign_bundle
from identity.signing import sign
from node.engine import commands as c
from node.engine import delivery_commands as d
from node.engine import values as v
from schemas.addresses import RelayAddress
from schemas.errors import Fault, Malformed
from schemas.group_records import CommitHeader
from schemas.ids import CommitHash, EpochId, GroupId, ParcelId
from schemas.parcels import Parcel, ParcelBody, WelcomeContent
from schemas.records import BundleCore, SignedType
from tests.node.engine.test_hostile import reopen, resealed, verdict
from tests.node.engine.world import Person, World

K = mls_rs.CLASSIC


def three(world: World) -> tuple[Person, Person, Person, GroupId]:
    ada, bob, cy = people = world.friends("ada", "bob", "cy")
    return ada, bob, cy, world.tea(people)


def to(person: Person, world: World, tag: bytes) -> Parcel:
    return Parcel(ParcelId(tag * 16), person.device, int(world.now) + 999, b"")


def test_old_honest_statement_does_not_split_a_group(world: World) -> None:
    ada, bob, cy, g = three(world)
    ada.send(g, "x")
    (p,) = world.take(ada, cy)
    body = reopen(cy, p)
    world.hand(ada, cy, [p])
    ada.ask(c.RemoveMember(g, cy.identity))
    world.settle(3)
    lie = dataclasses.replace(body, epoch_id=EpochId(b"l" * 32), parcel=ParcelId(b"z" * 16))
    verdict(bob, resealed(bob, to(bob, world, b"z"), lie))
    assert bob.view(g).status is v.GroupStatus.ACTIVE


def test_bundle_cannot_claim_somebody_elses_device(world: World) -> None:
    ada, bob, mal = world.friends("ada", "bob", "mal")
    bobs = BundleCore.decode(bob.ask(d.OwnRecords())[0].payload)
    mals = BundleCore.decode(mal.ask(d.OwnRecords())[0].payload)
    evil = RelayAddress.parse("6.6.6.6:7000#" + mal.device.hex())
    new = dataclasses.replace(
        mals, number=mals.number + 1, devices=mals.devices + bobs.devices, relays=(evil,)
    )
    with pytest.raises(Malformed):
        ada.ask(d.ReceiveBundle(sign_bundle(mal.engine.identity, new)))
    look = ada.ask(d.LookUpPeer(bob.device))
    assert (look.name, look.relays) == ("bob", ())


def test_coinvitee_cannot_take_over_a_welcome(world: World) -> None:
    ada, bob, mal = world.friends("ada", "bob", "mal")
    g = ada.create("tea", K, bob, mal)
    body = next(
        b for p in world.take(ada, mal) if isinstance((b := reopen(mal, p)).content, WelcomeContent)
    )
    assert isinstance(body.content, WelcomeContent)
    h = CommitHeader.decode(body.content.header.payload)
    fake = sign(
        SignedType.COMMIT_HEADER,
        mal.engine.device,
        dataclasses.replace(h, author=mal.device, commit=CommitHash(b"w" * 32)).encode(),
    )
    own, _ = mal.ask(d.OwnRecords())
    b = dataclasses.replace(
        body,
        parcel=ParcelId(b"q" * 16),
        content=dataclasses.replace(body.content, header=fake, inviter=own),
    )
    verdict(bob, resealed(bob, to(bob, world, b"q"), b))
    world.hand(ada, bob, world.take(ada, bob))
    bob.ask(c.Join(g))
    ada.ask(c.UpdateKey(g))
    world.settle(2)
    assert bob.view(g).epoch == ada.view(g).epoch


def test_removed_member_accepts_its_removal(world: World) -> None:
    ada, bob, cy, g = three(world)
    ada.ask(c.RemoveMember(g, cy.identity))
    (p,) = world.take(ada, cy)
    assert verdict(cy, p) == v.Accepted()


def _knows_cy(bob: Person, cy: Person, g: GroupId) -> bool:
    bob.send(g, "hi cy")
    return bob.ask(d.TakeDue(cy.device))[0].hybrid_key is not None


def test_bundles_that_come_before_the_welcome_are_kept(world: World) -> None:
    ada, bob, cy = (world.person(n) for n in ("ada", "bob", "cy"))
    ada.knows(bob, cy)
    bob.knows(ada)
    cy.knows(ada)
    g = ada.create("tea", K, bob, cy)
    world.hand(ada, bob, list(reversed(world.take(ada, bob))))
    bob.ask(c.Join(g))
    assert _knows_cy(bob, cy, g)


def test_bundles_that_come_while_their_commit_is_early_are_kept(world: World) -> None:
    ada, bob, cy = (world.person(n) for n in ("ada", "bob", "cy"))
    ada.knows(bob, cy)
    bob.knows(ada)
    cy.knows(ada)
    g = ada.create("tea", K, bob)
    world.settle()
    bob.ask(c.Join(g))
    world.settle(2)
    ada.ask(c.UpdateKey(g))
    first = world.take(ada, bob)
    ada.invite(g, cy)
    rest = world.take(ada, bob)
    world.hand(ada, bob, rest)
    world.hand(ada, bob, first)
    assert _knows_cy(bob, cy, g)


def test_ledger_cannot_be_hidden_by_a_reused_id(world: World) -> None:
    ada, bob, cy, g = three(world)
    m = ada.send(g, "mine")
    world.settle(1)
    core = cy.engine._core
    old = core.random
    ids = [bytes(m)]
    core.random = lambda n: ids.pop() if n == 16 and ids else old(n)
    cy.ask(c.Send(g, "copy"))
    core.random = old
    world.settle(1)
    assert ada.states(m)


def test_both_leave(world: World) -> None:
    ada, bob = world.friends("ada", "bob")
    g = ada.create("tea", K, bob)
    world.settle()
    bob.ask(c.Join(g))
    world.settle(2)
    ada.ask(c.Leave(g))
    bob.ask(c.Leave(g))
    world.settle(60)
    assert ada.view(g).status is v.GroupStatus.LEFT


def test_group_without_its_last_admin_can_still_be_governed(world: World) -> None:
    ada, bob, cy, g = three(world)
    ada.ask(c.Leave(g))
    world.settle(60)
    bob.ask(c.RemoveMember(g, cy.identity))


def test_known_groups_early_buffer_is_swept(world: World) -> None:
    ada, bob, cy, g = three(world)
    ada.send(g, "x")
    (p,) = world.take(ada, bob)
    b = ParcelBody(ParcelId(b"e" * 16), reopen(bob, p).content, g, EpochId(b"e" * 32))
    verdict(bob, resealed(bob, to(bob, world, b"e"), b))
    world.later(40 * 86_400)
    assert bob.engine._core.db.value("select count(*) from future") == 0


def test_invitation_adds_nobody_but_those_named(world: World) -> None:
    """A relay, or a peer, that answers with another person's KeyPackage decides nothing."""
    ada, bob, mal = world.friends("ada", "bob", "mal")
    g = ada.create("tea", K)
    with pytest.raises(Fault) as caught:
        ada.ask(c.Invite(g, (bob.identity,), (mal.key_package(K),)))
    assert caught.value.code == "wrong-key-package"
    assert len(ada.view(g).members) == 1


def test_of_two_conversations_made_at_once_one_is_shown(world: World) -> None:
    ada, bob = world.friends("ada", "bob")
    ada.ask(c.CreateDirect(bob.identity, K, (bob.key_package(K),)))
    bob.ask(c.CreateDirect(ada.identity, K, (ada.key_package(K),)))
    world.settle()
    (mine,), (theirs,) = ada.ask(c.ListGroups()), bob.ask(c.ListGroups())
    assert mine.group == theirs.group
    assert ada.ask(c.FindGroup("bob")).group == mine.group
