"""Parcels on a stick, between engines that no network joins."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any, TypeVar

import mls_rs
import pytest

from identity.envelope import seal
from node.by_hand import KEY_PACKAGES, export_parcels, import_parcels
from node.delivery.asking import Ask
from node.engine import commands as c
from node.engine import delivery_commands as d
from node.engine import values as v
from node.parcel_file import Kind, ParcelFileWriter, open_parcel_file, read_records_untrusted
from schemas.errors import Blame, Fault, Malformed, Refused
from schemas.ids import GroupId, ParcelId
from schemas.introduction import Introduction
from schemas.parcels import Parcel, pad
from tests.node.engine.world import Person, World

R = TypeVar("R")


@pytest.fixture
def world() -> World:
    return World(None)


@pytest.fixture
def stick(tmp_path: Path) -> Path:
    return tmp_path / "stick.qpcp"


def asking(person: Person) -> Ask:
    async def ask(command: c.Command[R]) -> R:
        return person.ask(command)

    return ask


def strangers(world: World, *names: str) -> list[Person]:
    """Who hold one another's cards, and nothing else."""
    people = [world.person(name) for name in names]
    for person in people:
        for other in people:
            if other is not person:
                person.ask(c.AddContact(other.ask(c.WhoAmI()).card))
    return people


async def carry(sender: Person, file: Path, *recipients: Person, **options: Any) -> Any:
    """What importing answered the last of them."""
    await export_parcels(asking(sender), file, replace=True, **options)
    for recipient in recipients:
        done = await import_parcels(asking(recipient), file)
    return done


def invite(sender: Person, group: GroupId, *others: Person) -> None:
    """With what came in files."""
    found = [sender.ask(d.TakeKeyPackage(each.device, mls_rs.CLASSIC)) for each in others]
    packages = tuple(package for package in found if package is not None)
    assert len(packages) == len(others)
    sender.ask(c.Invite(group, tuple(each.identity for each in others), packages))


async def test_two_who_share_cards_alone_meet_by_stick_and_the_receipt_comes_back(
    world: World, stick: Path
) -> None:
    ada, bob = strangers(world, "ada", "bob")
    done = await carry(bob, stick, ada, person=ada.identity)
    assert done.introduced == [(bob.identity, "bob")]

    group = ada.ask(c.CreateGroup("tea", mls_rs.CLASSIC)).group
    invite(ada, group, bob)
    message = ada.send(group, "by hand")
    exported = await export_parcels(asking(ada), stick, replace=True)
    assert exported.recipients == [(bob.identity, "bob")]
    assert exported.bytes == stick.stat().st_size
    assert not exported.introduces
    (row,) = ada.ask(c.ReadLedger(message.hex()))
    assert (row.state, row.path, row.reason) == ("carried", "carried", "exported: stick.qpcp")
    (why,) = ada.ask(c.Why(message.hex()))
    assert why.sentence.startswith("It is in the file stick.qpcp, written 2027-01-15 08:00 UTC")

    done = await import_parcels(asking(bob), stick)
    assert (done.new, done.parcels) == (exported.parcels, exported.parcels)
    bob.ask(c.Join(group))
    (seen,) = bob.ask(c.ReadMessages("default"))
    assert (seen.text, seen.path) == ("by hand", "carried")
    assert bob.read() == ["by hand"]

    await carry(bob, stick, ada)
    (row,) = ada.ask(c.ReadLedger(message.hex()))
    assert (row.state, row.path) == ("read", "carried")


async def test_importing_again_is_nothing_new_and_shows_nothing_twice(
    world: World, stick: Path
) -> None:
    ada, bob = world.friends("ada", "bob")
    group = world.tea([ada, bob])
    ada.send(group, "once")
    first = await carry(ada, stick, bob)
    again = await import_parcels(asking(bob), stick)
    assert (again.new, again.known) == (0, first.new)
    resealed = await carry(ada, stick, bob)  # other envelopes, the same parcels
    assert (resealed.new, resealed.known) == (0, first.new)
    assert bob.read() == ["once"]


async def test_what_is_on_the_stick_still_goes_over_the_network(world: World, stick: Path) -> None:
    ada, bob = world.friends("ada", "bob")
    group = world.tea([ada, bob])
    message = ada.send(group, "both ways")
    await export_parcels(asking(ada), stick)
    assert ada.states(message) == {"bob": "carried"}
    world.settle(2)
    assert bob.read() == ["both ways"]
    assert ada.states(message) == {"bob": "delivered"}
    assert (await import_parcels(asking(bob), stick)).new == 0
    assert bob.read() == []
    with pytest.raises(Refused) as nothing:
        await export_parcels(asking(ada), stick, replace=True, group=group)
    assert nothing.value.code == "nothing-waits"


async def test_a_second_file_is_the_one_that_the_ledger_names(world: World, stick: Path) -> None:
    ada, bob = world.friends("ada", "bob")
    message = ada.send(world.tea([ada, bob]), "?")
    await export_parcels(asking(ada), stick)
    world.now += 60
    await export_parcels(asking(ada), stick.with_name("other"))
    (row,) = ada.ask(c.ReadLedger(message.hex()))
    assert (row.reason, row.updated_at) == ("exported: other", world.now)


async def test_for_one_person_or_group_and_what_is_for_others(world: World, stick: Path) -> None:
    ada, bob, cy = world.friends("ada", "bob", "cy")
    both, alone = world.tea([ada, bob, cy]), world.tea([ada, bob])
    for group in (both, alone):
        ada.send(group, "hi")
    everything = await export_parcels(asking(ada), stick)
    assert {name for _, name in everything.recipients} == {"bob", "cy"}
    done = await import_parcels(asking(cy), stick)
    assert (done.new, done.others) == (1, 2)
    of_group = await export_parcels(asking(ada), stick, group=alone, replace=True)
    assert (of_group.parcels, of_group.introduces) == (1, False)
    of_cy = await export_parcels(asking(ada), stick, person=cy.identity, replace=True)
    assert (of_cy.parcels, of_cy.introduces) == (1, True)
    done = await import_parcels(asking(bob), stick)
    assert (done.others, done.introduced) == (1, []), "the KeyPackages are Cy's to use"
    assert bob.ask(d.TakeKeyPackage(ada.device, mls_rs.CLASSIC)) is None
    assert cy.ask(d.TakeKeyPackage(ada.device, mls_rs.CLASSIC)) is None


async def test_a_backlog_of_several_pages_keeps_its_order(world: World, stick: Path) -> None:
    ada, bob = world.friends("ada", "bob")
    group = world.tea([ada, bob])
    texts = [str(number) for number in range(150)]
    for text in texts:
        ada.send(group, text)
    done = await carry(ada, stick, bob)
    assert done.new == 150
    assert bob.read() == texts


async def test_a_receipt_that_is_owed_is_on_the_stick(world: World, stick: Path) -> None:
    """`export-parcels` right after `import-parcels`, before any receipt was due."""
    ada, bob = world.friends("ada", "bob")
    group = world.tea([ada, bob])
    message = ada.send(group, "?")
    await carry(ada, stick, bob)
    await carry(bob, stick, ada)
    assert ada.states(message) == {"bob": "delivered"}


async def test_what_cannot_be_sealed_is_said(world: World, stick: Path) -> None:
    ada, bob = world.friends("ada", "bob")
    group = world.tea([ada, bob])
    ada.send(group, "?")
    ada.database.execute("DELETE FROM bundle_devices WHERE device = ?", (bytes(bob.device),))
    with pytest.raises(Refused) as raised:
        await export_parcels(asking(ada), stick)
    assert raised.value.code == "nothing-waits"
    assert "1 parcels wait, and none can be sealed" in raised.value.message
    assert not stick.exists()


async def test_a_file_that_is_there_is_replaced_only_when_that_is_asked(
    world: World, stick: Path
) -> None:
    ada, bob = world.friends("ada", "bob")
    ada.send(world.tea([ada, bob]), "?")
    stick.write_bytes(b"something else")
    with pytest.raises(Refused) as raised:
        await export_parcels(asking(ada), stick)
    assert raised.value.code == "file-exists"
    assert stick.read_bytes() == b"something else"
    await export_parcels(asking(ada), stick, replace=True)
    assert stick.read_bytes().startswith(b"QPCP")


async def test_a_damaged_file_gives_what_it_has_and_says_so(world: World, stick: Path) -> None:
    ada, bob = world.friends("ada", "bob")
    group = world.tea([ada, bob])
    for text in ("one", "two", "three"):
        ada.send(group, text)
    await export_parcels(asking(ada), stick)
    os.truncate(stick, stick.stat().st_size - 500)
    with pytest.raises(Fault) as raised:
        await import_parcels(asking(bob), stick)
    assert raised.value.code == "parcel-file-damaged"
    assert "of the 2 parcels before that: 2 new, 0 known" in raised.value.message
    assert bob.read() == ["one", "two"]
    done = await carry(ada, stick, bob)
    assert (done.new, done.known) == (1, 2)
    assert bob.read() == ["three"]


async def test_hostile_parcels_are_counted_by_reason(world: World, stick: Path) -> None:
    ada, bob = world.friends("ada", "bob")
    group = world.tea([ada, bob])
    ada.send(group, "good")
    await export_parcels(asking(ada), stick)
    with open_parcel_file(stick) as opened:
        good = Parcel.decode(next(read_records_untrusted(opened.read))[1])
    hybrid_key = bob.engine._core.hybrid_keys[0].public
    hostile = [
        dataclasses.replace(good, sealed=b"nonsense"),
        dataclasses.replace(good, id=ParcelId(b"another id here!")),
        dataclasses.replace(good, sealed=seal(hybrid_key, pad(b"not a body"))),
    ]
    with ParcelFileWriter(stick) as writer:
        for parcel in [*hostile, good]:
            writer.parcel(parcel)
        writer._record(Kind.PARCEL, b"no parcel at all")
    done = await import_parcels(asking(bob), stick)
    assert (done.parcels, done.new) == (5, 1)
    assert done.refused == {
        "cannot-open": 1,
        "wrong-parcel-id": 1,
        "malformed-parcel-body": 1,
        "malformed-parcel": 1,
    }
    assert bob.read() == ["good"]


async def test_what_cannot_be_taken_yet_is_told_and_comes_the_next_time(
    world: World, stick: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada, bob = world.friends("ada", "bob")
    group = world.tea([ada, bob])
    ada.send(group, "?")
    await export_parcels(asking(ada), stick)
    deferred = v.Deferred(60.0)
    with monkeypatch.context() as full:
        full.setitem(bob.engine._handlers, d.Arrived, lambda command: deferred)
        done = await import_parcels(asking(bob), stick)
    assert (done.later, done.new) == (1, 0)
    assert (await import_parcels(asking(bob), stick)).new == 1


async def test_a_disk_that_is_full_is_an_error_and_no_count(world: World, stick: Path) -> None:
    ada, bob = world.friends("ada", "bob")
    ada.send(world.tea([ada, bob]), "?")
    await export_parcels(asking(ada), stick)

    async def full(command: c.Command[R]) -> R:
        if isinstance(command, d.Arrived):
            raise Fault("disk-full", "the disk is full", blame=Blame.ENVIRONMENT)
        return bob.ask(command)

    with pytest.raises(Fault) as raised:
        await import_parcels(full, stick)
    assert raised.value.code == "disk-full"


# --- introductions


def introduction(of: Person, reader: Person, *packages: bytes) -> Introduction:
    return Introduction(reader.identity, of.ask(d.OwnRecords())[0], packages)


async def test_each_key_package_of_a_file_invites_once_however_often_it_is_imported(
    world: World, stick: Path
) -> None:
    ada, bob = strangers(world, "ada", "bob")
    await carry(bob, stick, ada, person=ada.identity)

    def take() -> bytes | None:
        return ada.ask(d.TakeKeyPackage(bob.device, mls_rs.CLASSIC))

    taken = {take() for _ in range(KEY_PACKAGES)}
    assert None not in taken
    assert len(taken) == KEY_PACKAGES
    await import_parcels(asking(ada), stick)
    assert take() is None
    await carry(bob, stick, ada, person=ada.identity)
    assert take() not in taken
    world.now += 91 * 86_400
    assert take() is None, "it is not valid any more"


async def test_nobody_is_introduced_who_is_no_contact(world: World, stick: Path) -> None:
    ada, bob, eve = world.person("ada"), world.person("bob"), world.person("eve")
    eve.ask(c.AddContact(ada.ask(c.WhoAmI()).card))
    done = await carry(eve, stick, ada, person=ada.identity)
    assert done.introduced == []
    assert "eve" in done.strangers[0]
    assert ada.ask(d.KnownNumber(eve.identity)) == 0
    ada.ask(c.AddContact(eve.ask(c.WhoAmI()).card))
    assert (await import_parcels(asking(ada), stick)).introduced == [(eve.identity, "eve")]
    ada.ask(c.Block(eve.identity))
    assert (await import_parcels(asking(ada), stick)).introduced == []
    with pytest.raises(Refused) as refused:
        await export_parcels(asking(ada), stick, person=eve.identity, replace=True)
    assert refused.value.code == "blocked"
    with pytest.raises(Refused) as refused:
        await export_parcels(asking(ada), stick, person=bob.identity, replace=True)
    assert refused.value.code == "unknown-person"


def test_a_key_package_of_somebody_else_is_not_taken_with_a_bundle(world: World) -> None:
    """Else a file would decide whom `invite bob` adds."""
    ada, bob = strangers(world, "ada", "bob")
    eve = world.person("eve")
    good = bob.key_package(mls_rs.CLASSIC)
    for bad in (eve.key_package(mls_rs.CLASSIC), good[:-1] + bytes([good[-1] ^ 1]), b"", good[1:]):
        with pytest.raises(Fault):
            ada.ask(d.ReceiveIntroduction(introduction(bob, ada, good, bad)))
        assert ada.ask(d.TakeKeyPackage(bob.device, mls_rs.CLASSIC)) is None
        assert ada.ask(d.TakeKeyPackage(eve.device, mls_rs.CLASSIC)) is None
    core, packages = bob.ask(d.OwnRecords())[0], (good,)
    bent = dataclasses.replace(core, payload=core.payload[:-1] + b"\1")
    with pytest.raises(Malformed):
        ada.ask(d.ReceiveIntroduction(Introduction(ada.identity, bent, packages)))
    ada.ask(d.ReceiveIntroduction(introduction(bob, ada, good)))
    assert ada.ask(d.TakeKeyPackage(bob.device, mls_rs.CLASSIC)) == good


def test_key_packages_of_one_contact_are_bounded(world: World) -> None:
    ada, bob = strangers(world, "ada", "bob")
    for _ in range(18):
        world.now += 60
        packages = [bob.key_package(mls_rs.CLASSIC) for _ in range(4)]
        ada.ask(d.ReceiveIntroduction(introduction(bob, ada, *packages)))
    found = ada.database.execute("SELECT message FROM carried_key_packages").fetchall()
    assert len(found) == 64
    assert {message for (message,) in found} >= set(packages), "the newest stay"
