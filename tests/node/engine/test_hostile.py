"""Bad input at the engine: refused with a type, and the good copy still works afterwards."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import mls_rs
import pytest

from identity.envelope import open_untrusted, seal
from identity.keys import device_from_seed
from identity.signing import sign
from node.engine import commands as c
from node.engine import delivery_commands as d
from node.engine import values as v
from node.engine.groups.epochs import commit_hash
from schemas.errors import Fault, Malformed
from schemas.group_records import (
    AuthorMark,
    CommitHeader,
    Intent,
    IntentKind,
    MemberRef,
    Statement,
    Summary,
)
from schemas.ids import CommitHash, EpochId, GroupId, IntentId, ParcelId
from schemas.parcels import (
    BundlesContent,
    CommitContent,
    Content,
    IntentContent,
    MessageContent,
    Parcel,
    ParcelBody,
    SummaryContent,
    WelcomeContent,
    pad,
    unpad,
)
from schemas.records import Signed, SignedType
from tests.node.engine.world import Person, World

NOBODY = Signed(b"", bytes(32), bytes(64))


def reopen(recipient: Person, parcel: Parcel) -> ParcelBody:
    """As an attacker with the recipient's hybrid key would see it."""
    keys = recipient.engine._core.hybrid_keys[0]
    return ParcelBody.decode(unpad(open_untrusted(keys, parcel.sealed)))


def resealed(recipient: Person, parcel: Parcel, body: ParcelBody) -> Parcel:
    key = recipient.engine._core.hybrid_keys[0].public
    return dataclasses.replace(parcel, sealed=seal(key, pad(body.encode())))


def flipped(data: bytes, at: int = -1) -> bytes:
    changed = bytearray(data)
    changed[at] ^= 1
    return bytes(changed)


def verdict(recipient: Person, parcel: Parcel) -> v.Verdict:
    return recipient.ask(d.Arrived(parcel, "relay"))


def code(found: v.Verdict) -> str:
    assert isinstance(found, v.Rejected), found
    return found.code


@pytest.fixture
def pair(world: World) -> tuple[Person, Person, GroupId]:
    ada, bob = people = world.friends("ada", "bob")
    return ada, bob, world.tea(people)


def damage(content: Content) -> Content:
    """One flipped byte in the MLS bytes."""
    match content:
        case MessageContent(mls):
            return MessageContent(flipped(mls))
        case CommitContent() | WelcomeContent():
            return dataclasses.replace(content, mls=flipped(content.mls))
        case _:
            raise AssertionError(content)


def test_flipped_byte_in_a_parcel_is_refused_and_the_good_copy_works(
    world: World, pair: tuple[Person, Person, GroupId]
) -> None:
    ada, bob, group = pair
    ada.send(group, "whole")
    (parcel,) = world.take(ada, bob)
    for at in (0, 1, 40, 1200, -1):
        bad = dataclasses.replace(parcel, sealed=flipped(parcel.sealed, at))
        assert isinstance(verdict(bob, bad), v.Rejected)
    assert verdict(bob, parcel) == v.Accepted()
    assert bob.read() == ["whole"]


@pytest.mark.parametrize("what", ["message", "commit"])
def test_flipped_byte_inside_is_refused_and_the_good_copy_works(
    world: World, pair: tuple[Person, Person, GroupId], what: str, suite: int
) -> None:
    ada, bob, _ = pair
    group = ada.create("cake", suite, bob)
    world.settle()
    bob.ask(c.Join(group))
    world.settle(2)
    if what == "message":
        ada.send(group, "whole")
    else:
        ada.ask(c.UpdateKey(group))
    (parcel,) = world.take(ada, bob)
    body = reopen(bob, parcel)
    bad = resealed(bob, parcel, dataclasses.replace(body, content=damage(body.content)))
    assert isinstance(verdict(bob, bad), v.Rejected)
    assert verdict(bob, parcel) == v.Accepted()
    assert bob.view(group).epoch_id == ada.view(group).epoch_id
    ada.send(group, "after")
    world.settle()
    assert bob.read()[-1] == "after"


def test_flipped_byte_in_a_welcome_is_refused_and_the_good_copy_works(
    world: World, suite: int
) -> None:
    ada, bob = world.friends("ada", "bob")
    group = ada.create("tea", suite, bob)
    parcel = next(
        parcel
        for parcel in world.take(ada, bob)
        if isinstance(reopen(bob, parcel).content, WelcomeContent)
    )
    body = reopen(bob, parcel)
    assert isinstance(body.content, WelcomeContent)
    for at in (60, len(body.content.mls) // 2, -1):
        content = dataclasses.replace(body.content, mls=flipped(body.content.mls, at))
        bad = resealed(bob, parcel, dataclasses.replace(body, content=content))
        assert isinstance(verdict(bob, bad), v.Rejected)
    assert verdict(bob, parcel) == v.Accepted()
    assert bob.ask(c.Join(group)).epoch == 1


def test_replayed_parcel_is_acknowledged_and_shown_once(
    world: World, pair: tuple[Person, Person, GroupId]
) -> None:
    ada, bob, group = pair
    ada.send(group, "once")
    (parcel,) = world.take(ada, bob)
    for _ in range(3):
        assert verdict(bob, parcel) == v.Accepted()
    # A relay that gives it a new name does not get it shown twice either.
    renamed = dataclasses.replace(parcel, id=ParcelId(b"n" * 16))
    assert verdict(bob, renamed) == v.Accepted()
    body = dataclasses.replace(reopen(bob, parcel), parcel=ParcelId(b"n" * 16))
    assert verdict(bob, resealed(bob, renamed, body)) == v.Accepted()
    bob.restart()
    assert verdict(bob, parcel) == v.Accepted()
    assert bob.read() == ["once"]


def test_garbage_under_a_known_id_does_not_shut_out_the_good_one(
    world: World, pair: tuple[Person, Person, GroupId]
) -> None:
    ada, bob, group = pair
    ada.send(group, "good")
    (parcel,) = world.take(ada, bob)
    bad = dataclasses.replace(parcel, sealed=b"\x01" + bytes(2000))
    assert code(verdict(bob, bad)) == "cannot-open"
    # A relay knows the id and can seal: nothing that it makes may stand in the good one's place.
    for content in (BundlesContent(), MessageContent(b"junk"), CommitContent(NOBODY, b"")):
        for unknown in (group, GroupId(b"?" * 16)):
            body = ParcelBody(parcel.id, content, unknown, EpochId(b"?" * 32))
            verdict(bob, resealed(bob, parcel, body))
    assert verdict(bob, parcel) == v.Accepted()
    assert bob.read() == ["good"]


def test_parcel_of_a_newer_version_stays_at_the_relay(
    world: World, pair: tuple[Person, Person, GroupId]
) -> None:
    ada, bob, group = pair
    ada.send(group, "new")
    (parcel,) = world.take(ada, bob)
    newer = dataclasses.replace(parcel, sealed=b"\x02" + parcel.sealed[1:])
    found = verdict(bob, newer)
    assert found == v.Rejected("unknown-envelope-version", forget=False)


def test_parcel_and_welcome_for_somebody_else(world: World) -> None:
    ada, bob, cy = world.friends("ada", "bob", "cy")
    ada.create("tea", mls_rs.CLASSIC, bob)
    for parcel in world.take(ada, bob):
        assert code(verdict(cy, parcel)) == "not-for-me"
        stolen = resealed(cy, dataclasses.replace(parcel, recipient=cy.device), reopen(bob, parcel))
        if isinstance(reopen(bob, parcel).content, WelcomeContent):
            assert isinstance(verdict(cy, stolen), v.Rejected)
    assert cy.ask(c.ListGroups()) == ()


def test_member_cannot_break_the_rules_with_a_program_of_their_own(world: World) -> None:
    """Bob, no admin, removes Cy by raw MLS: everybody refuses, and the group goes on."""
    ada, bob, cy = world.friends("ada", "bob", "cy")
    group = ada.create("tea", mls_rs.CLASSIC, bob, cy)
    world.settle()
    for person in (bob, cy):
        person.ask(c.Join(group))
    world.settle(2)
    core = bob.engine._core
    row = core.group(group)
    leaf = next(m.leaf for m in core.groups.members(group) if m.device == cy.device)
    mls = bob.lawless(group).commit(remove=[leaf], now=int(world.now)).message
    header = CommitHeader(
        commit_hash(mls),
        row.head,
        group,
        row.epoch + 1,
        bob.device,
        removed=(MemberRef(cy.device, cy.identity),),
    )
    signed = sign(SignedType.COMMIT_HEADER, bob.engine.device, header.encode())
    body = ParcelBody(ParcelId(b"r" * 16), CommitContent(signed, mls), group, EpochId(row.epoch_id))
    parcel = Parcel(ParcelId(b"r" * 16), ada.device, int(world.now) + 99, b"")
    assert code(verdict(ada, resealed(ada, parcel, body))) == "not-an-admin"
    to_cy = dataclasses.replace(parcel, recipient=cy.device)
    assert code(verdict(cy, resealed(cy, to_cy, body))) == "not-an-admin"
    ada.send(group, "still three")
    world.settle()
    assert cy.read() == ["still three"]


@pytest.mark.parametrize(
    "forge",
    [
        lambda h: dataclasses.replace(h, parent=CommitHash(b"x" * 32)),
        lambda h: dataclasses.replace(h, epoch=h.epoch + 1),
        lambda h: dataclasses.replace(h, removed=h.added),
        lambda h: dataclasses.replace(h, commit=CommitHash(b"x" * 32)),
        lambda h: dataclasses.replace(h, group=GroupId(b"x" * 16)),
    ],
    ids=["parent", "epoch", "removed", "hash", "group"],
)
def test_header_that_is_not_of_its_commit(
    world: World,
    pair: tuple[Person, Person, GroupId],
    forge: Callable[[CommitHeader], CommitHeader],
) -> None:
    ada, bob, group = pair
    cy = world.person("cy")
    ada.knows(cy)
    ada.invite(group, cy)
    parcel = world.take(ada, bob)[0]
    body = reopen(bob, parcel)
    assert isinstance(body.content, CommitContent)
    header = forge(CommitHeader.decode(body.content.header.payload))
    signed = sign(SignedType.COMMIT_HEADER, ada.engine.device, header.encode())
    content = dataclasses.replace(body.content, header=signed)
    bad = resealed(bob, parcel, dataclasses.replace(body, content=content))
    bad_verdict = verdict(bob, dataclasses.replace(bad, id=parcel.id))
    # An unknown parent, or a group not known, waits like anything early; the rest is refused.
    early = CommitHeader.decode(signed.payload).parent == CommitHash(b"x" * 32)
    assert bad_verdict == v.Accepted() if early else isinstance(bad_verdict, v.Rejected)
    assert bob.view(group).epoch == 1
    unsigned = dataclasses.replace(body.content.header, signature=bytes(64))
    content = dataclasses.replace(body.content, header=unsigned)
    bad = resealed(bob, parcel, dataclasses.replace(body, content=content))
    if isinstance(bad_verdict, v.Rejected):
        assert code(verdict(bob, bad)) == "bad-signature"
        assert verdict(bob, parcel) == v.Accepted()
        assert bob.view(group).epoch == 2


def test_strangers_cannot_split_a_group(world: World, pair: tuple[Person, Person, GroupId]) -> None:
    """Only a member's signature is evidence of a fork: a parcel's epoch id is anybody's word."""
    ada, bob, group = pair
    ada.send(group, "x")
    (parcel,) = world.take(ada, bob)
    body = reopen(bob, parcel)
    mallory = device_from_seed(b"m" * 32)
    lie = Statement(group, 9, CommitHash(b"l" * 32), EpochId(b"l" * 32))
    for statement in (None, sign(SignedType.STATEMENT, mallory, lie.encode())):
        other = dataclasses.replace(body, epoch_id=EpochId(b"l" * 32), statement=statement)
        verdict(bob, resealed(bob, parcel, other))
        assert bob.view(group).status is v.GroupStatus.ACTIVE
    core = bob.engine._core
    row = core.group(group)
    header = CommitHeader(commit_hash(b"junk"), row.head, group, row.epoch + 1, mallory.public)
    signed = sign(SignedType.COMMIT_HEADER, mallory, header.encode())
    junk = ParcelBody(parcel.id, CommitContent(signed, b"junk"), group, row.epoch_id)
    assert isinstance(verdict(bob, resealed(bob, parcel, junk)), v.Rejected)
    sibling = dataclasses.replace(header, parent=CommitHash(bytes(32)), epoch=1)
    signed = sign(SignedType.COMMIT_HEADER, mallory, sibling.encode())
    junk = ParcelBody(parcel.id, CommitContent(signed, b"junk"), group, row.epoch_id)
    assert code(verdict(bob, resealed(bob, parcel, junk))) == "not-a-member"
    assert bob.view(group).status is v.GroupStatus.ACTIVE


def test_forged_summary_settles_nothing(world: World, pair: tuple[Person, Person, GroupId]) -> None:
    ada, bob, group = pair
    message = ada.send(group, "hello")
    head, epoch_id = CommitHash(b"h" * 32), EpochId(b"e" * 32)
    mark = AuthorMark(ada.device, 1, 99, (), 99)
    payload = Summary(group, epoch_id, head, 7, (mark,)).encode()
    mallory = device_from_seed(b"m" * 32)
    own = sign(SignedType.SUMMARY, bob.engine.device, payload)
    for signed in (
        sign(SignedType.SUMMARY, mallory, payload),
        dataclasses.replace(own, signature=bytes(64)),
        sign(SignedType.STATEMENT, bob.engine.device, payload),
    ):
        with pytest.raises(Malformed):
            ada.ask(d.ReceiveSummary(mallory.public, signed))
        body = ParcelBody(ParcelId(b"s" * 16), SummaryContent(signed), group)
        parcel = Parcel(ParcelId(b"s" * 16), ada.device, int(world.now) + 9, b"")
        assert isinstance(verdict(ada, resealed(ada, parcel, body)), v.Rejected)
    assert ada.states(message) == {"bob": "queued"}


def test_strangers_wish_is_refused(world: World, pair: tuple[Person, Person, GroupId]) -> None:
    ada, bob, group = pair
    mallory = device_from_seed(b"m" * 32)
    for key, author in ((mallory, mallory.public), (mallory, bob.device)):
        intent = Intent(IntentId(b"i" * 16), group, author, IntentKind.LEAVE)
        signed = sign(SignedType.INTENT, key, intent.encode())
        body = ParcelBody(ParcelId(b"w" * 16), IntentContent(signed), group)
        parcel = Parcel(ParcelId(b"w" * 16), ada.device, int(world.now) + 9, b"")
        assert isinstance(verdict(ada, resealed(ada, parcel, body)), v.Rejected)
    world.settle(30)
    assert len(ada.view(group).members) == 2


def test_early_messages_are_bounded_and_the_ack_is_withheld(
    world: World, pair: tuple[Person, Person, GroupId], monkeypatch: pytest.MonkeyPatch
) -> None:
    ada, bob, group = pair
    monkeypatch.setattr("schemas.limits.FUTURE_MESSAGES", 5)
    ada.ask(c.UpdateKey(group))
    for number in range(8):
        ada.send(group, f"early {number}")
    commit, *messages = world.take(ada, bob)
    found = [verdict(bob, parcel) for parcel in messages]
    assert found[:5] == [v.Accepted()] * 5
    assert all(isinstance(answer, v.Deferred) for answer in found[5:])
    assert verdict(bob, commit) == v.Accepted()
    assert [verdict(bob, parcel) for parcel in messages[5:]] == [v.Accepted()] * 3
    assert bob.read() == [f"early {number}" for number in range(8)]


@pytest.mark.parametrize(
    "content",
    [
        MessageContent(b"\x00" * 40),
        MessageContent(b""),
        CommitContent(NOBODY, b""),
    ],
    ids=["zeros", "empty", "empty commit"],
)
def test_junk_inside_a_good_envelope(
    world: World, pair: tuple[Person, Person, GroupId], content: Content
) -> None:
    _, bob, group = pair
    row = bob.engine._core.group(group)
    body = ParcelBody(ParcelId(b"j" * 16), content, group, row.epoch_id)
    parcel = Parcel(ParcelId(b"j" * 16), bob.device, int(world.now) + 9, b"")
    assert isinstance(verdict(bob, resealed(bob, parcel, body)), v.Rejected)


def test_damaged_and_expired_cards(world: World) -> None:
    ada, bob = world.person("ada"), world.person("bob")
    card = bob.ask(c.WhoAmI()).card
    for text, expected in [
        (card[:-4], "damaged-card"),
        ("hello", "not-a-card"),
        (ada.ask(c.WhoAmI()).card, "yourself"),
    ]:
        with pytest.raises(Fault) as caught:
            ada.ask(c.AddContact(text))
        assert caught.value.code == expected
    world.now += 400 * 86_400
    with pytest.raises(Fault) as caught:
        ada.ask(c.AddContact(card))
    assert caught.value.code == "expired-card"


def test_forged_bundles_and_endpoints_change_nothing(world: World) -> None:
    ada, bob, cy = world.friends("ada", "bob", "cy")
    core, _ = bob.ask(d.OwnRecords())
    forged = dataclasses.replace(core, payload=flipped(core.payload))
    with pytest.raises(Malformed):
        ada.ask(d.ReceiveBundle(forged))
    stolen = sign(SignedType.BUNDLE_CORE, cy.engine.identity, core.payload)
    with pytest.raises(Malformed):
        ada.ask(d.ReceiveBundle(stolen))
    endpoint = bob.ask(d.SetEndpoint(()))
    ada.ask(d.ReceiveBundle(None, (dataclasses.replace(endpoint, signature=bytes(64)),)))
    assert ada.ask(d.LookUpPeer(bob.device)).endpoint is None
    ada.ask(d.ReceiveBundle(None, (endpoint,)))
    assert ada.ask(d.LookUpPeer(bob.device)).endpoint is not None


def test_sealed_state_holds_no_seed(world: World, pair: tuple[Person, Person, GroupId]) -> None:
    ada, _, group = pair
    ada.ask(c.UpdateKey(group))
    seed = ada.engine.device.seed
    db = ada.engine._core.db
    blobs = [
        bytes(row[0])
        for table, column in [
            ("group_state", "blob"),
            ("group_tree", "blob"),
            ("epochs", "blob"),
            ("snapshots", "state"),
            ("key_packages", "blob"),
        ]
        for row in db.rows(f"SELECT {column} FROM {table}")
    ]
    assert blobs
    assert all(seed not in blob for blob in blobs)


def test_refused_command_leaves_no_trace_in_memory_or_on_disk(
    world: World, pair: tuple[Person, Person, GroupId]
) -> None:
    """A batch with a refusal in the middle: what is before and after it counts."""
    ada, bob, group = pair
    answers = ada.run(
        c.Send(group, "one"),
        c.Send(group, "x" * 70_000),
        c.RemoveMember(group, ada.identity),
        c.Send(group, "two"),
    )
    assert [isinstance(answer, Fault) for answer in answers] == [False, True, True, False]
    ada.restart()
    ada.send(group, "three")
    world.settle()
    assert bob.read() == ["one", "two", "three"]
