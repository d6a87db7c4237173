"""Messages, records and frames of a member, a peer or a relay whose numbers a test chooses."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import os
from collections.abc import Callable, Iterator
from typing import Any

import mls_rs

from identity.envelope import seal
from identity.signing import sign
from node.engine import commands as c
from node.engine import delivery_commands as d
from node.engine import values as v
from schemas import frames, limits, messages, parcels, records
from schemas.addresses import Address, AddressKind, EndpointAddress, RelayAddress
from schemas.card import Card
from schemas.errors import Malformed
from schemas.group_records import AuthorMark, Summary
from schemas.ids import DeviceKey, EpochId, GroupId, IdentityKey, ParcelId
from schemas.parcels import (
    BundlesContent,
    CommitContent,
    Content,
    MessageContent,
    Parcel,
    ParcelBody,
    SummaryContent,
    WelcomeContent,
)
from schemas.records import BundleCore, BundlePrivate, EndpointRecord, Signed, SignedType
from schemas.times import LAST_S
from tests.node.engine.test_hostile import reopen, resealed
from tests.node.engine.world import Person, World

K = mls_rs.CLASSIC
RELAY = RelayAddress(Address("relay.example", 7000), DeviceKey(b"r" * 32))
BITS = {"uint16": 16, "uint32": 32, "uint64": 64}
EDGES = (
    *(-(2**63), -1, 0, 1, 2**16 - 1, 2**31, 2**32 - 1),
    *(LAST_S, LAST_S * 1000, 253_402_300_800_000),
    *(limits.COUNTER, 2**53, 2**63 - 1, 2**63, 2**64 - 1),
)

Step = str | int
Path_ = tuple[Step, ...]
Patch = Callable[[bytes], bytes]


def values_of(kind: str) -> list[int]:
    least, most = (-(2**63), 2**63 - 1) if kind == "int64" else (0, 2 ** BITS[kind] - 1)
    return [value for value in EDGES if least <= value <= most]


def integers(schema: Any, path: Path_ = ()) -> Iterator[tuple[Path_, str]]:
    """Every integer field of a struct, and of those in it; of a list, its first element."""
    for name in schema.fieldnames:
        field = schema.fields[name]
        kind = field.proto.slot.type
        here: Path_ = (*path, name)
        if kind.which() == "list":
            here, kind = (*here, 0), kind.list.elementType
            inner = field.schema.elementType if kind.which() == "struct" else None
        else:
            inner = field.schema if kind.which() == "struct" else None
        if inner is not None:
            yield from integers(inner, here)
        elif kind.which() in (*BITS, "int64"):
            yield here, kind.which()


def patched(struct: Any, path: Path_, value: int, data: bytes) -> bytes:
    with struct.from_bytes(data) as reader:
        message = reader.as_builder()
    at = message
    for step in path[:-1]:
        at = at[step] if isinstance(step, int) else getattr(at, step)
    if isinstance(path[-1], int):
        at[path[-1]] = value
    else:
        setattr(at, path[-1], value)
    return bytes(message.to_bytes())


# --- who is there


@dataclasses.dataclass
class Scene:
    world: World
    ada: Person
    bob: Person
    mallory: Person
    group: GroupId
    verdicts: list[v.Verdict] = dataclasses.field(default_factory=list)  # on what is forged
    newer: Iterator[int] = dataclasses.field(default_factory=lambda: itertools.count(9))

    @property
    def honest(self) -> tuple[Person, Person]:
        return self.ada, self.bob

    def give(self, recipient: Person, content: Content) -> None:
        """In a parcel, as if Mallory's program had sealed it."""
        parcel = Parcel(
            ParcelId(os.urandom(ParcelId.LENGTH)), recipient.device, int(self.world.now) + 60, b""
        )
        self.arrive(recipient, resealed(recipient, parcel, ParcelBody(parcel.id, content)))

    def arrive(self, recipient: Person, parcel: Parcel) -> None:
        self.verdicts.append(recipient.ask(d.Arrived(parcel, "direct")))

    def forge(self, change: Callable[[ParcelBody], ParcelBody | bytes]) -> None:
        """What waits at Mallory arrives changed, and then as it was."""
        for person in self.honest:
            for parcel in self.world.take(self.mallory, person):
                changed = change(reopen(person, parcel))
                if isinstance(changed, ParcelBody):
                    changed = changed.encode()
                key = person.engine._core.hybrid_keys[0].public
                sealed = seal(key, parcels.pad(changed))
                self.arrive(person, dataclasses.replace(parcel, sealed=sealed))
                self.world.hand(self.mallory, person, [parcel])

    def signed(self, kind: SignedType, payload: bytes) -> Signed:
        """By Mallory, whose word it is."""
        person = kind in (SignedType.BUNDLE_CORE, SignedType.BUNDLE_PRIVATE)
        engine = self.mallory.engine
        return (
            sign(kind, engine.identity, payload) if person else sign(kind, engine.device, payload)
        )


# --- who says it, and how it gets here


def message(scene: Scene, patch: Patch) -> None:
    core = scene.mallory.engine._core
    encrypt = core.encrypt
    core.encrypt = lambda row, plaintext: encrypt(row, patch(plaintext))  # type: ignore[method-assign]
    scene.mallory.send(scene.group, "listen")
    core.encrypt = encrypt  # type: ignore[method-assign]
    scene.world.settle()


def statement(scene: Scene, patch: Patch) -> None:
    scene.mallory.send(scene.group, "listen")

    def change(body: ParcelBody) -> ParcelBody:
        assert body.statement is not None
        said = scene.signed(SignedType.STATEMENT, patch(body.statement.payload))
        return dataclasses.replace(body, statement=said)

    scene.forge(change)


def header(scene: Scene, patch: Patch) -> None:
    scene.mallory.ask(c.UpdateKey(scene.group))

    def change(body: ParcelBody) -> ParcelBody:
        if not isinstance(body.content, CommitContent):
            return body
        said = scene.signed(SignedType.COMMIT_HEADER, patch(body.content.header.payload))
        return dataclasses.replace(body, content=dataclasses.replace(body.content, header=said))

    scene.forge(change)
    scene.world.settle()


def summary(scene: Scene, patch: Patch) -> None:
    row = scene.mallory.engine._core.group(scene.group)
    for person in scene.honest:
        mark = AuthorMark(person.device, 1, 9, (1,), 1)
        said = Summary(scene.group, row.epoch_id, row.head, next(scene.newer), (mark,))
        signed = scene.signed(SignedType.SUMMARY, patch(said.encode()))
        person.run(d.ReceiveSummary(scene.mallory.device, signed))
        scene.give(person, SummaryContent(signed))


def bundle(scene: Scene, patch: Patch) -> None:
    mine = BundleCore.decode(scene.mallory.ask(d.OwnRecords())[0].payload)
    core = dataclasses.replace(mine, number=next(scene.newer), relays=(RELAY,))
    signed = scene.signed(SignedType.BUNDLE_CORE, patch(core.encode()))
    for person in scene.honest:
        person.run(d.ReceiveBundle(signed, ()))
        scene.give(person, BundlesContent((signed,)))


def private(scene: Scene, patch: Patch) -> None:
    for person in scene.honest:
        said = BundlePrivate(
            scene.mallory.identity, next(scene.newer), person.identity, b"s" * 32, b""
        )
        signed = scene.signed(SignedType.BUNDLE_PRIVATE, patch(said.encode()))
        scene.give(person, BundlesContent(private=signed))


def endpoint(scene: Scene, patch: Patch) -> None:
    now = int(scene.world.now)
    here = EndpointAddress(Address("10.0.0.1", 7000), AddressKind.LAN)
    record = EndpointRecord(
        scene.mallory.device, next(scene.newer), (here,), (RELAY,), now, now + 3600
    )
    signed = scene.signed(SignedType.ENDPOINT_RECORD, patch(record.encode()))
    for person in scene.honest:
        person.run(d.ReceiveBundle(None, (signed,)))
        scene.give(person, BundlesContent(endpoints=(signed,)))


def welcome(scene: Scene, patch: Patch) -> None:
    scene.mallory.create("cake", K, *scene.honest)

    def change(body: ParcelBody) -> ParcelBody | bytes:
        return patch(body.encode()) if isinstance(body.content, WelcomeContent) else body

    scene.forge(change)
    scene.world.settle()


def frame(scene: Scene, patch: Patch, sent: frames.Frame) -> None:
    """As a link hands it to the engine; a frame that is not read ends the link."""
    try:
        read = frames.decode_frame(patch(frames.encode_frame(sent)))
    except Malformed:
        return
    device = scene.mallory.device
    for person in scene.honest:
        match read:
            case frames.Hello():
                credential = scene.mallory.engine._core.credential
                person.ask(d.LinkUp(device, dataclasses.replace(read, credential=credential)))
                person.ask(d.LinkDown(device))
            case frames.Deliver():
                scene.mallory.send(scene.group, "listen")
                for parcel in scene.world.take(scene.mallory, person):
                    expires = read.parcel.expires
                    scene.arrive(person, dataclasses.replace(parcel, expires=expires))
            case frames.Deferred():
                outcome(scene, person, retry_after_s=read.retry_after_ms / 1000)
            case frames.KeyPackageRequest():
                person.run(d.AnswerKeyPackage(device, read.suite, read.request_id))
            case frames.BundleRequest():
                person.ask(d.AnswerBundle(person.identity, read.newer_than, device))
            case other:
                raise AssertionError(other)


def outcome(scene: Scene, person: Person, **said: Any) -> None:
    """Of all that waits for Mallory here."""
    message = person.send(scene.group, "out")
    due = scene.world.take(person, scene.mallory)
    person.ask(d.ReportOutcomes(tuple(d.Outcome(parcel.id, **said) for parcel in due)))
    person.ask(c.Why(message.hex()))


def held(scene: Scene, until: int) -> None:
    for person in scene.honest:
        outcome(scene, person, held=(str(RELAY), until))


def mls_epoch(scene: Scene, epoch: int) -> None:
    """In the clear part of a PrivateMessage, under an epoch that nobody knows, and under ours."""
    for other in (False, True):
        scene.mallory.send(scene.group, "listen")

        def change(body: ParcelBody, other: bool = other) -> ParcelBody:
            assert isinstance(body.content, MessageContent)
            mls = body.content.mls
            at = 4 + 1 + len(scene.group)  # version, wire format, group id
            assert mls_rs.inspect(mls).epoch == int.from_bytes(mls[at : at + 8], "big")
            content = MessageContent(mls[:at] + epoch.to_bytes(8, "big") + mls[at + 8 :])
            under = EpochId(epoch.to_bytes(32, "big")) if other else body.epoch_id
            return dataclasses.replace(body, content=content, epoch_id=under)

        scene.forge(change)


def card_number(scene: Scene, number: int) -> None:
    card(scene, bundle_number=number)


def card_expires(scene: Scene, expires: int) -> None:
    card(scene, expires=expires)


def card(scene: Scene, **said: Any) -> None:
    text = str(dataclasses.replace(Card.parse(scene.mallory.ask(c.WhoAmI()).card), **said))
    for person in scene.honest:
        person.run(c.AddContact(text))


NOBODYS = Parcel(ParcelId(bytes(16)), DeviceKey(bytes(32)), 1, b"x")
FRAMES: tuple[frames.Frame, ...] = (
    frames.Hello(bytes(96), 1, bytes(32), 1, ""),
    frames.Deliver(NOBODYS),
    frames.Deferred(NOBODYS.id, 1),
    frames.KeyPackageRequest(1, bytes(16)),
    frames.BundleRequest(IdentityKey(bytes(32)), 1),
)
# Signed, sealed or framed: what is in the schemas.
CARRIERS: dict[str, tuple[Any, Callable[[Scene, Patch], None]]] = {
    "message": (messages._message.AppMessage, message),
    "statement": (records._record.Statement, statement),
    "header": (records._record.CommitHeader, header),
    "summary": (records._record.Summary, summary),
    "bundle": (records._record.BundleCore, bundle),
    "private": (records._record.BundlePrivate, private),
    "endpoint": (records._record.EndpointRecord, endpoint),
    "welcome": (parcels._parcel.ParcelBody, welcome),
    **{
        type(sent).__name__: (frames._frame.Frame, functools.partial(frame, sent=sent))
        for sent in FRAMES
    },
}
# Of a union, what the carrier carries.
WITHIN = {
    "welcome": ("welcome",),
    "Hello": ("hello",),
    "Deliver": ("deliver",),
    "Deferred": ("ack",),
    "KeyPackageRequest": ("keyPackageRequest",),
    "BundleRequest": ("bundleRequest",),
}
NUMBERS = {  # that other codecs read: (their type, who says them)
    "held": ("int64", held),
    "mls-epoch": ("uint64", mls_epoch),
    "card-number": ("uint32", card_number),
    "card-expires": ("uint64", card_expires),
}
