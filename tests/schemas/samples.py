"""One value of each kind that crosses the wire, for tests and fuzzers."""

from __future__ import annotations

from typing import Any

from schemas import dht, frames, group_records, messages, parcels, records
from schemas.addresses import Address, AddressKind, EndpointAddress, RelayAddress
from schemas.card import Card
from schemas.ids import (
    CommitHash,
    DeviceKey,
    DhtId,
    EpochId,
    GroupId,
    IdentityKey,
    IntentId,
    MessageId,
    ParcelId,
)
from schemas.introduction import Introduction

D, E = DeviceKey(b"d" * 32), DeviceKey(b"e" * 32)
PERSON = IdentityKey(b"i" * 32)
GROUP, EPOCH, HEAD = GroupId(b"g" * 16), EpochId(b"x" * 32), CommitHash(b"h" * 32)
RELAY = RelayAddress(Address("relay.example", 7000), E)
SIGNED = records.Signed(b"payload", b"s" * 32, b"t" * 64)
PARCEL = parcels.Parcel(ParcelId(b"p" * 16), D, 1_800_000_000, b"sealed bytes")

PLACE = DhtId(b"k" * 32)
NEIGHBOUR = dht.ReadContact(E, Address("203.0.113.7", 7000))

DHT_REQUESTS: list[dht.DhtRequest] = [
    dht.FindNode(PLACE, announce=True),
    dht.FindValue(PLACE),
    dht.Store(PLACE, SIGNED),
    dht.DialBack(),
]
DHT_RESPONSES: list[dht.DhtResponse] = [
    dht.Contacts((NEIGHBOUR,)),
    dht.Values((SIGNED,), (NEIGHBOUR,)),
    dht.Stored(),
    dht.DialedBack(True, "203.0.113.9:7000"),
    dht.DhtError("cell-full", "as many values as are kept under one key"),
]

RECORDS: list[Any] = [
    dht.DhtValue(PLACE, 5, 1_800_000_000, 1_800_003_600, b"sealed"),
    records.EndpointRecord(
        D, 7, (EndpointAddress(Address("::1", 7000), AddressKind.LAN),), (RELAY,), 1, 2
    ),
    records.BundleCore(
        PERSON,
        3,
        "Zoë",
        (
            records.BundleDevice(
                D, "laptop", b"k" * records.HYBRID_KEY_LENGTH, b"s" * 64, b"o" * 64, 5
            ),
        ),
        (RELAY,),
    ),
    records.RelayStatement(PERSON, 4, (RELAY,)),
    group_records.CommitHeader(
        HEAD,
        CommitHash(bytes(32)),
        GROUP,
        4,
        D,
        (group_records.MemberRef(E, PERSON),),
        (),
        (IntentId(b"n" * 16),),
    ),
    group_records.Statement(GROUP, 9, HEAD, EPOCH),
    group_records.Intent(IntentId(b"n" * 16), GROUP, D, group_records.IntentKind.LEAVE),
    group_records.Intent(IntentId(b"n" * 16), GROUP, D, group_records.IntentKind.REMOVE, PERSON),
    group_records.Intent(
        IntentId(b"n" * 16),
        GROUP,
        D,
        group_records.IntentKind.ADD,
        members=(group_records.MemberRef(E, PERSON), group_records.MemberRef(D, PERSON)),
    ),
    group_records.Intent(IntentId(b"n" * 16), GROUP, D, group_records.IntentKind.READMIT),
    group_records.Intent(IntentId(b"n" * 16), GROUP, D, group_records.IntentKind.PROMOTE, PERSON),
    group_records.Summary(GROUP, EPOCH, HEAD, 2, (), b"t" * 32),
    group_records.Summary(GROUP, EPOCH, HEAD, 2, (group_records.AuthorMark(D, 1, 9, (3, 4), 2),)),
    messages.AppMessage(
        MessageId(b"m" * 16), 5, 2, 11, (MessageId(b"o" * 16),), 123, "hi\nthere ☃"
    ),
    messages.GroupInfo(
        "friends", messages.GroupKind.GROUP, (PERSON,), messages.InvitePolicy.ADMINS
    ),
    records.BundlePrivate(PERSON, 4, IdentityKey(b"r" * 32), b"s" * 32, b"t"),
    SIGNED,
    PARCEL,
    Introduction(PERSON, SIGNED, (b"package", b"another")),
    Card(PERSON, D, b"c" * 32, 4, b"b" * 32, 99, (Address("10.0.0.1", 7000),), RELAY),
]

CONTENTS: list[tuple[parcels.Content, records.Signed | None]] = [
    (parcels.MessageContent(b"mls"), SIGNED),
    (parcels.CommitContent(SIGNED, b"mls", (SIGNED,)), None),
    (
        parcels.WelcomeContent(b"mls", SIGNED, SIGNED, (parcels.BundleDigest(D, 3, b"b" * 32),)),
        None,
    ),
    (
        parcels.WelcomeContent(b"mls", SIGNED, SIGNED, (), (b"1" * 32, b"2" * 32)),
        None,
    ),
    (parcels.TreeChunkContent(b"tree"), None),
    (parcels.IntentContent(SIGNED, (b"package", b"another")), None),
    (parcels.HeadsContent((SIGNED,), (SIGNED, SIGNED), ((SIGNED, SIGNED),)), None),
    (parcels.BundlesContent((SIGNED, SIGNED), (SIGNED,), SIGNED), None),
    (parcels.BundlesContent(), None),
    (parcels.SummaryContent(SIGNED), None),
    (parcels.IntentContent(SIGNED), None),
]
BODIES = [
    parcels.ParcelBody(PARCEL.id, content, GROUP, EPOCH, statement)
    for content, statement in CONTENTS
]

FRAMES: list[frames.Frame] = [
    frames.Hello(b"c" * 96, 2, b"b" * 32, 8, "10.0.0.1:7000", features=("a", "b")),
    frames.Ping(1),
    frames.Pong(2**64 - 1),
    frames.Deliver(PARCEL),
    frames.Acked(PARCEL.id),
    frames.Deferred(PARCEL.id, 500),
    frames.RefusedParcel(PARCEL.id, "not-for-me"),
    frames.SummaryFrame(SIGNED),
    frames.KeyPackageRequest(1, b"r" * 16),
    frames.KeyPackageResponse(b"kp"),
    frames.BundleRequest(PERSON, 4),
    frames.BundleResponse(SIGNED, (SIGNED,)),
    frames.BundleResponse(None, ()),
    frames.MeetRequest(PARCEL.recipient, (Address("11.0.0.1", 7000), Address("2001:db8::7", 1))),
    frames.Meet(PARCEL.recipient, ()),
    frames.MeetResponse((Address("11.0.0.1", 7000),)),
    frames.ErrorFrame("code", "message", "hint", 7),
]
