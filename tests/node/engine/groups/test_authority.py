"""The group's rules hold inside MLS: whatever way a commit comes, it is asked whether it may."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import mls_rs
import pytest

from identity.signing import sign
from node.engine import commands as c
from node.engine.core import group_extensions, group_info
from node.engine.groups.authority import (
    decode_intents_untrusted,
    encode_intents,
    in_our_words,
)
from node.engine.groups.rules import FRESH_EPOCHS
from schemas.errors import Fault, Malformed, Refused
from schemas.group_records import Intent, IntentKind
from schemas.ids import GroupId, IntentId
from schemas.limits import COMMIT_CHANGES
from schemas.records import Signed, SignedType
from tests.node.engine.world import Person, World

Trio = tuple[Person, Person, Person, GroupId]


@pytest.fixture
def trio(world: World) -> Trio:
    """Ada is the admin."""
    ada, bob, cy = world.friends("ada", "bob", "cy")
    return ada, bob, cy, world.tea([ada, bob, cy])


def leaf_of(group: mls_rs.Group, person: Person) -> int:
    member = group.find_member(person.device)
    assert member is not None
    return member.index


def wish(author: Person, group: GroupId, kind: IntentKind = IntentKind.LEAVE) -> Signed:
    intent = Intent(IntentId(b"i" * 16), group, author.device, kind)
    return sign(SignedType.INTENT, author.engine.device, intent.encode())


def judged(person: Person, group: GroupId, message: bytes) -> str | None:
    """The code of the refusal; None when the commit may take effect."""
    try:
        with in_our_words():
            person.engine._core.mls_group(group).clone().process(message)
    except Fault as fault:
        return fault.code
    return None


def test_a_removal_needs_an_admin_or_the_wish_of_who_leaves(world: World, trio: Trio) -> None:
    ada, bob, cy, group = trio
    mls = bob.lawless(group)

    def removal(*wishes: Signed) -> bytes:
        data = encode_intents(wishes)
        remove = [leaf_of(mls, cy)]
        return mls.commit(remove=remove, authenticated_data=data, now=int(world.now)).message

    for witness in (ada, cy):
        assert judged(witness, group, removal()) == "not-an-admin"
        assert judged(witness, group, removal(wish(bob, group))) == "not-an-admin"
        assert judged(witness, group, removal(wish(cy, group))) is None


def test_our_own_program_makes_no_such_commit(world: World, trio: Trio) -> None:
    """MLS itself refuses, and the user reads our words for it."""
    _, bob, cy, group = trio
    mls = bob.engine._core.mls_group(group)
    with pytest.raises(mls_rs.RefusedByRules) as refused:
        mls.commit(remove=[leaf_of(mls, cy)], now=int(world.now))
    assert isinstance(refused.value.__cause__, Refused)
    pending = bob.lawless(group).commit(remove=[leaf_of(mls, cy)], now=int(world.now))
    with pytest.raises(mls_rs.RefusedByRules):
        mls.clone().apply(pending)
    with pytest.raises(Refused) as told:
        bob.ask(c.RemoveMember(group, cy.identity))
    assert told.value.code == "not-an-admin"


def test_nobody_changes_what_is_not_ours_in_the_group_context(world: World, trio: Trio) -> None:
    """Not even an admin: every member would carry it along, and rules of MLS would change."""
    ada, bob, cy, group = trio
    info = group_info(ada.engine._core.mls_group(group))
    required, ours = group_extensions(info)
    for author, witness in ((ada, bob), (bob, cy)):
        for extensions in ([ours], [required, ours, (5, b"\0")], [(required[0], bytes(3)), ours]):
            try:
                pending = author.lawless(group).commit(extensions=extensions, now=int(world.now))
            except mls_rs.InvalidCommit:
                continue  # the library refuses it by itself
            assert judged(witness, group, pending.message) == "foreign-extension"


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        (lambda data: data[:-1], "bad-intents"),
        (lambda data: data + b"\0", "bad-intents"),
        (lambda data: b"\xff\xff\xff\xff" + data[4:], "bad-intents"),
        (lambda data: data * (COMMIT_CHANGES + 1), "bad-intents"),
        (lambda data: b"\0\0\0\0", "malformed-record"),
    ],
    ids=["short", "long", "length", "many", "empty"],
)
def test_wishes_that_cannot_be_read_make_a_commit_invalid(
    world: World, trio: Trio, spoil: Callable[[bytes], bytes], code: str
) -> None:
    ada, bob, cy, group = trio
    data = spoil(encode_intents([wish(cy, group)]))
    pending = bob.lawless(group).commit(authenticated_data=data, now=int(world.now))
    assert judged(ada, group, pending.message) == code
    with pytest.raises(Malformed):
        decode_intents_untrusted(data)


def test_wishes_of_another_group_or_signed_by_another_make_a_commit_invalid(
    world: World, trio: Trio
) -> None:
    ada, bob, cy, group = trio
    forged = dataclasses.replace(wish(cy, group), signature=bytes(64))
    others = wish(cy, GroupId(b"x" * 16))
    of_bob = dataclasses.replace(wish(bob, group), payload=wish(cy, group).payload)
    for signed, code in ((forged, "bad-signature"), (others, "wrong-intent"), (of_bob, "bad-sig")):
        data = encode_intents([signed])
        pending = bob.lawless(group).commit(authenticated_data=data, now=int(world.now))
        assert (judged(ada, group, pending.message) or "").startswith(code)


def test_intents_are_read_as_they_were_written(trio: Trio) -> None:
    ada, bob, _, group = trio
    wishes = [wish(ada, group), wish(bob, group, IntentKind.UPDATE)]
    assert decode_intents_untrusted(encode_intents(wishes)) == wishes
    assert decode_intents_untrusted(b"") == []


def test_a_wish_of_long_ago_says_nothing(world: World, trio: Trio) -> None:
    """Or who came back could be removed by what they said when they left."""
    ada, bob, cy, group = trio
    old = Intent(IntentId(b"i" * 16), group, cy.device, IntentKind.LEAVE, epoch=1)
    signed = sign(SignedType.INTENT, cy.engine.device, old.encode())
    for _ in range(FRESH_EPOCHS):
        ada.ask(c.UpdateKey(group))
        world.settle()
    mls = bob.lawless(group)
    pending = mls.commit(
        remove=[leaf_of(mls, cy)], authenticated_data=encode_intents([signed]), now=int(world.now)
    )
    assert judged(ada, group, pending.message) == "old-intent"
