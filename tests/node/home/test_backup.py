"""A backup brings the same person back, on a new device, with all that was said."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import mls_rs
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from node import backup as format_
from node.backup import Backup, decode_untrusted
from node.engine import commands as c
from node.engine.values import GroupStatus
from node.home import open_engine, restore_home
from schemas.errors import Refused
from tests.node.delivery.real import DONE, Person, befriend, card, joined, ledger, texts
from tests.node.home.commands import Commander


async def test_a_restored_person_is_invited_again_and_nothing_said_is_lost(
    kj: None, tmp_path: Path
) -> None:
    ada, bob = Person(tmp_path, "ada"), Person(tmp_path, "bob")
    async with ada.running() as a, bob.running() as b:
        await befriend(a, b)
        await a.ask(c.VerifyContact(b.identity))
        group = (await b.ask(c.CreateGroup("harbour", mls_rs.CLASSIC))).group
        await b.invite(group, [a.identity])
        await joined(a, group)
        message = await a.ask(c.Send(group, "said before"))
        await ledger(a, message, DONE)
        await b.ask(c.Send(group, "answered before"))
        await texts(a, 1)
        pending = await a.ask(c.CreateGroup("alone", mls_rs.CLASSIC))
        content = await a.ask(c.TakeBackup())
        old_device, identity = a.device, a.identity
    assert a.identity.hex().encode() not in content
    with open_engine(ada.folder) as engine:
        assert engine.device.seed not in content, "a home could be cloned with this"

    ada.folder = tmp_path / "restored"
    restore_home(ada.folder, content)
    async with ada.running() as a, bob.running() as b:
        assert (a.identity, a.name) == (identity, "ada")
        assert a.device != old_device
        views = {view.name: view for view in await a.ask(c.ListGroups())}
        assert {view.status for view in views.values()} == {GroupStatus.RESTORED}
        assert {m.name for m in views["harbour"].members} == {"bob"}
        history = await a.ask(c.ReadHistory(group))
        assert [m.text for m in history] == ["said before", "answered before"]
        (contact,) = await a.ask(c.ListContacts())
        assert contact.verified
        assert {row.state for row in await a.ask(c.ReadLedger(message.message.hex()))} <= set(DONE)
        with pytest.raises(Refused) as raised:
            await a.ask(c.Send(pending.group, "?"))
        assert raised.value.code == "not-readmitted"

        # Bob learns of the new device from Ada's card, or when the two meet.
        await b.add_contact(await card(a))
        async with asyncio.timeout(10):
            while await b.ask(c.DevicesOf(identity)) != (a.device,):
                await asyncio.sleep(0.02)
        view = await b.invite(group, [identity])
        assert [m.devices for m in view.members if m.identity == identity] == [(a.device,)]
        async with asyncio.timeout(10):  # nothing to accept: she had
            while (await a.ask(c.FindGroup(group.hex()))).status != GroupStatus.ACTIVE:
                await asyncio.sleep(0.02)
        await b.ask(c.Send(group, "welcome back"))
        assert [m.text for m in await texts(a, 2)] == ["answered before", "welcome back"]
        again = await a.ask(c.Send(group, "here again"))
        await ledger(a, again, DONE)
        assert [m.text for m in await texts(b, 2)] == ["said before", "here again"]
        # One to one: a new conversation, and both sides take that one.
        direct = await b.direct_group(identity, suite=mls_rs.CLASSIC)
        one = await b.ask(c.Send(direct.group, "and alone?"))
        await ledger(b, one, DONE)


async def test_both_sides_leave_a_conversation_of_two_with_the_old_device(
    kj: None, tmp_path: Path
) -> None:
    """Else the peer would go on writing to a device that is no more."""
    ada, bob = Person(tmp_path, "ada"), Person(tmp_path, "bob")
    async with ada.running() as a, bob.running() as b:
        await befriend(a, b)
        old = await b.direct_group(a.identity, suite=mls_rs.CLASSIC)
        await ledger(b, await b.ask(c.Send(old.group, "one")), DONE)
        under_way = await a.ask(c.Send((await a.direct_group(b.identity)).group, "two"))
        await ledger(a, under_way, DONE)
        content = await a.ask(c.TakeBackup())
    ada.folder = tmp_path / "restored"
    restore_home(ada.folder, content)
    async with ada.running() as a, bob.running() as b:
        await b.add_contact(await card(a))
        async with asyncio.timeout(10):
            while await b.ask(c.DevicesOf(a.identity)) != (a.device,):
                await asyncio.sleep(0.02)
        new = await b.direct_group(a.identity, suite=mls_rs.CLASSIC)
        assert new.group != old.group
        await ledger(b, await b.ask(c.Send(new.group, "three")), DONE)
        assert (await a.direct_group(b.identity)).group == new.group
        shown = [g for g in await b.ask(c.ListGroups()) if g.group == new.group]
        assert shown, "hidden behind the old one"


async def test_what_was_under_way_is_told_of(kj: None, tmp_path: Path) -> None:
    ada, bob = Person(tmp_path, "ada"), Person(tmp_path, "bob")
    async with ada.running() as a, bob.running() as b:
        await befriend(a, b)
        group = (await a.direct_group(b.identity, suite=mls_rs.CLASSIC)).group
    async with ada.running() as a:
        message = await a.ask(c.Send(group, "lost?"))
        content = await a.ask(c.TakeBackup())
    ada.folder = tmp_path / "restored"
    restore_home(ada.folder, content)
    async with ada.running() as a:
        (why,) = await a.ask(c.Why(message.message.hex()))
    assert "not known" in why.sentence
    assert "Send it again" in why.action


# --- the content


SAMPLE = Backup(
    format_.FORMAT, 1, 1.0, bytes(32), bytes(32), "Ada", 1, [], [], [], [], [], [], [], []
)


CARRIED = format_.Delivery(
    message=bytes(16),
    device=bytes(32),
    identity=bytes(32),
    group=bytes(16),
    sequence=1,
    state="carried",
    path="direct",
    relay=None,
    held_until=None,
    reason=None,
    updated=1.0,
    carrier=b"c" * 32,
)


@given(st.binary(max_size=300))
def test_no_content_raises_anything_but_refused(data: bytes) -> None:
    for each in (data, format_.encode(SAMPLE)[: len(data)], format_.encode(SAMPLE) + data[:1]):
        if each != format_.encode(SAMPLE):
            with pytest.raises(Refused):
                decode_untrusted(each)


def test_hostile_content_is_refused() -> None:
    def code(**changes: object) -> str:
        with pytest.raises(Refused) as raised:
            decode_untrusted(format_.encode(msgspec.structs.replace(SAMPLE, **changes)))
        return raised.value.code

    assert decode_untrusted(format_.encode(SAMPLE)) == SAMPLE
    assert code(version=2) == "backup-newer"
    device = identity = bytes(32)
    message = format_.Message(
        1, bytes(16), device, bytes(16), identity, 1, 1, b"", 1, 1.0, True, "own", "x"
    )
    for changes in (
        {"format": "other"},
        {"identity_seed": b"short"},
        {"bundles": [b"junk"]},
        {"contacts": [format_.Person(b"junk", True, 0.0)]},
        {"blocked": [(b"short", 0.0)]},
        {"messages": [message]},  # of no group
        {"ledger": [msgspec.structs.replace(CARRIED, carrier=b"short")]},
    ):
        assert code(**changes) == "bad-backup"


def test_backups_from_before_others_carried_messages_are_read() -> None:
    content = format_.encode(msgspec.structs.replace(SAMPLE, ledger=[CARRIED]))
    assert decode_untrusted(content).ledger == [CARRIED]
    older = msgspec.msgpack.decode(content)
    assert older["ledger"][0].pop() == CARRIED.carrier
    (row,) = decode_untrusted(msgspec.msgpack.encode(older)).ledger
    assert row == msgspec.structs.replace(CARRIED, carrier=None)


# --- commands


def test_backup_and_restore_as_a_user_types_them(tmp_path: Path) -> None:
    secret = tmp_path / "backup.passphrase"
    secret.write_text("for the backup")
    file = tmp_path / "zelda.qpce"
    sealed = ("--backup-passphrase-file", str(secret))

    person = Commander(tmp_path / "home", "home's own")
    commands = [["init", "--name", "Zelda"], ["create-group", "harbour"], ["whoami"]]
    *_, (_, whoami) = person.several(*commands)
    backup = ["backup", str(file), *sealed]
    made, again = person.several(backup, backup)
    assert made == (0, [{"file": str(file), "bytes": file.stat().st_size}])
    assert code(again) == "file-exists"
    assert file.stat().st_mode & 0o777 == 0o600
    assert b"harbour" not in file.read_bytes()

    new = Commander(tmp_path / "new", "another")
    restore = ["restore", str(file), *sealed]
    (refused,) = new.several(["restore", str(file)])
    assert code(refused) == "wrong-passphrase"
    assert not new.home.exists(), "a refusal leaves nothing"
    (_, done), (_, me), (_, groups), again = new.several(restore, ["whoami"], ["groups"], restore)
    assert done[0]["bytes"] == file.stat().st_size
    assert me[0]["identity"] == whoami[0]["identity"]
    assert me[0]["device"] != whoami[0]["device"]
    assert groups[0]["status"] == "restored"
    assert code(again) == "home-exists"
    assert new.fails("whoami", passphrase=None) == "passphrase-needed"


def code(outcome: tuple[int, list[dict[str, Any]]]) -> str:
    """Of the error that a command ended with."""
    assert outcome[0] == 1, outcome
    return str(outcome[1][-1]["error"]["code"])
