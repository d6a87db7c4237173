"""Signed things: bundles, endpoint records, commit headers, statements, intents, summaries.

A signature covers exact payload bytes, so encoding and signing are apart: `encode` here, sign and
verify in `identity.signing`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from schemas import limits
from schemas.addresses import Address, AddressKind, EndpointAddress, RelayAddress
from schemas.capnp_codec import counter, exactly, ids, items, load, reading, sized, text, which
from schemas.ids import CommitHash, DeviceKey, EpochId, GroupId, IdentityKey, IntentId

_record = load("record.capnp")

HYBRID_KEY_LENGTH = 32 + 1184  # X25519 public key | ML-KEM-768 encapsulation key
SIGNATURE_LENGTH = 64
_SIGNED_OVERHEAD = 256


class SignedType(StrEnum):
    """The word in the signature's prefix, `"quicnprotochat <type> v1"`."""

    DEVICE = "device"
    HYBRID_KEY = "hybrid key"
    BUNDLE_CORE = "bundle core"
    ENDPOINT_RECORD = "endpoint record"
    COMMIT_HEADER = "commit header"
    STATEMENT = "statement"
    SUMMARY = "summary"
    INTENT = "intent"


@dataclass(frozen=True, slots=True)
class Signed:
    """A payload's exact bytes, the signer's public key (32 B) and the signature (64 B).

    Holding one says nothing: `identity.signing.verify` does.
    """

    payload: bytes
    signer: bytes
    signature: bytes

    def encode(self) -> bytes:
        message = _record.Signed.new_message()
        fill_signed(message, self)
        return bytes(message.to_bytes())

    @classmethod
    def decode(cls, data: bytes, *, limit: int = limits.BUNDLE) -> Signed:
        """Raises Malformed."""
        with reading(_record.Signed, data, limit=limit + _SIGNED_OVERHEAD, what="record") as reader:
            return read_signed(reader, limit)


def fill_signed(builder: Any, signed: Signed) -> None:
    builder.payload = signed.payload
    builder.signer = signed.signer
    builder.signature = signed.signature


def read_signed(reader: Any, limit: int) -> Signed:
    return Signed(
        sized(reader.payload, limit),
        exactly(reader.signer, 32),
        exactly(reader.signature, SIGNATURE_LENGTH),
    )


# --- endpoint record


@dataclass(frozen=True, slots=True)
class EndpointRecord:
    """Where a device can be reached; times in Unix seconds. A hint: TLS proves who answers."""

    device: DeviceKey
    sequence: int
    addresses: tuple[EndpointAddress, ...]
    relays: tuple[RelayAddress, ...]
    issued: int
    expires: int

    def encode(self) -> bytes:
        message = _record.EndpointRecord.new_message(
            device=bytes(self.device),
            sequence=self.sequence,
            issued=self.issued,
            expires=self.expires,
        )
        for slot, endpoint in zip(
            message.init("addresses", len(self.addresses)), self.addresses, strict=True
        ):
            slot.host, slot.port = endpoint.address
            slot.kind = endpoint.kind.value
        _fill_relays(message, self.relays)
        return bytes(message.to_bytes())

    @classmethod
    def decode(cls, payload: bytes) -> EndpointRecord:
        """Raises Malformed."""
        with reading(
            _record.EndpointRecord, payload, limit=limits.ENDPOINT_RECORD, what="endpoint-record"
        ) as reader:
            return cls(
                DeviceKey(reader.device),
                counter(reader.sequence),
                items(reader.addresses, limits.ENDPOINT_ADDRESSES, _read_address),
                items(reader.relays, limits.ENDPOINT_RELAYS, _read_relay),
                counter(reader.issued),
                counter(reader.expires),
            )


def _read_address(reader: Any) -> EndpointAddress:
    return EndpointAddress(
        Address(text(reader.host, limits.ADDRESS_TEXT), reader.port), AddressKind(str(reader.kind))
    )


def _read_relay(reader: Any) -> RelayAddress:
    return RelayAddress(
        Address(text(reader.host, limits.ADDRESS_TEXT), reader.port), DeviceKey(reader.device)
    )


def _fill_relays(message: Any, relays: tuple[RelayAddress, ...]) -> None:
    for slot, relay in zip(message.init("relays", len(relays)), relays, strict=True):
        slot.host, slot.port = relay.address
        slot.device = bytes(relay.device)


# --- contact bundle


@dataclass(frozen=True, slots=True)
class BundleDevice:
    """One device in a bundle; `hybrid_signature` is the device's own over its hybrid key."""

    key: DeviceKey
    name: str
    hybrid_key: bytes
    hybrid_signature: bytes
    issued: int


@dataclass(frozen=True, slots=True)
class BundleCore:
    """What one needs to reach and seal to a person; public; newest number wins."""

    identity: IdentityKey
    number: int
    name: str
    devices: tuple[BundleDevice, ...]
    relays: tuple[RelayAddress, ...]

    def encode(self) -> bytes:
        message = _record.BundleCore.new_message(
            identity=bytes(self.identity), number=self.number, name=self.name
        )
        for slot, device in zip(
            message.init("devices", len(self.devices)), self.devices, strict=True
        ):
            slot.key = bytes(device.key)
            slot.name = device.name
            slot.hybridKey = device.hybrid_key
            slot.hybridSignature = device.hybrid_signature
            slot.issued = device.issued
        _fill_relays(message, self.relays)
        return bytes(message.to_bytes())

    @classmethod
    def decode(cls, payload: bytes) -> BundleCore:
        """Raises Malformed."""
        with reading(_record.BundleCore, payload, limit=limits.BUNDLE, what="bundle") as reader:
            return cls(
                IdentityKey(reader.identity),
                counter(reader.number),
                text(reader.name, limits.DISPLAY_NAME),
                items(reader.devices, limits.BUNDLE_DEVICES, _read_bundle_device),
                items(reader.relays, limits.BUNDLE_RELAYS, _read_relay),
            )


def _read_bundle_device(reader: Any) -> BundleDevice:
    return BundleDevice(
        DeviceKey(reader.key),
        text(reader.name, limits.DISPLAY_NAME),
        exactly(reader.hybridKey, HYBRID_KEY_LENGTH),
        exactly(reader.hybridSignature, SIGNATURE_LENGTH),
        counter(reader.issued),
    )


@dataclass(frozen=True, slots=True)
class BundlePrivate:
    """The part of a bundle for one reader; only ever inside a parcel."""

    identity: IdentityKey
    discovery_secret: bytes
    delivery_token: bytes


def fill_bundle_private(builder: Any, private: BundlePrivate) -> None:
    builder.identity = bytes(private.identity)
    builder.discoverySecret = private.discovery_secret
    builder.deliveryToken = private.delivery_token


def read_bundle_private(reader: Any) -> BundlePrivate:
    return BundlePrivate(
        IdentityKey(reader.identity),
        sized(reader.discoverySecret, 32),
        sized(reader.deliveryToken, 32),
    )


# --- groups


@dataclass(frozen=True, slots=True)
class MemberRef:
    """A device in a group, with the person it belongs to."""

    device: DeviceKey
    identity: IdentityKey


@dataclass(frozen=True, slots=True)
class CommitHeader:
    """What everybody may know of a commit; `epoch` is the one it opens. Signed by `author`."""

    commit: CommitHash
    parent: CommitHash
    group: GroupId
    epoch: int
    author: DeviceKey
    added: tuple[MemberRef, ...] = ()
    removed: tuple[MemberRef, ...] = ()
    intents: tuple[IntentId, ...] = ()

    def encode(self) -> bytes:
        message = _record.CommitHeader.new_message(
            commit=bytes(self.commit),
            parent=bytes(self.parent),
            group=bytes(self.group),
            epoch=self.epoch,
            author=bytes(self.author),
            intents=[bytes(intent) for intent in self.intents],
        )
        for field, members in (("added", self.added), ("removed", self.removed)):
            for slot, member in zip(message.init(field, len(members)), members, strict=True):
                slot.device = bytes(member.device)
                slot.identity = bytes(member.identity)
        return bytes(message.to_bytes())

    @classmethod
    def decode(cls, payload: bytes) -> CommitHeader:
        """Raises Malformed."""
        with reading(
            _record.CommitHeader, payload, limit=COMMIT_HEADER_BYTES, what="commit-header"
        ) as reader:
            return cls(
                CommitHash(reader.commit),
                CommitHash(reader.parent),
                GroupId(reader.group),
                counter(reader.epoch),
                DeviceKey(reader.author),
                items(reader.added, limits.COMMIT_CHANGES, _read_member),
                items(reader.removed, limits.COMMIT_CHANGES, _read_member),
                ids(reader.intents, limits.COMMIT_CHANGES, IntentId),
            )


COMMIT_HEADER_BYTES = 512 + 2 * limits.COMMIT_CHANGES * 96 + limits.COMMIT_CHANGES * 24


def _read_member(reader: Any) -> MemberRef:
    return MemberRef(DeviceKey(reader.device), IdentityKey(reader.identity))


@dataclass(frozen=True, slots=True)
class Statement:
    """A device's word which head it stands on; its latest number is its vote."""

    group: GroupId
    number: int
    commit: CommitHash
    epoch_id: EpochId

    def encode(self) -> bytes:
        return bytes(
            _record.Statement.new_message(
                group=bytes(self.group),
                number=self.number,
                commit=bytes(self.commit),
                epochId=bytes(self.epoch_id),
            ).to_bytes()
        )

    @classmethod
    def decode(cls, payload: bytes) -> Statement:
        """Raises Malformed."""
        with reading(_record.Statement, payload, limit=512, what="statement") as reader:
            return cls(
                GroupId(reader.group),
                counter(reader.number),
                CommitHash(reader.commit),
                EpochId(reader.epochId),
            )


class IntentKind(StrEnum):
    LEAVE = "leave"
    REMOVE = "remove"
    UPDATE = "update"


@dataclass(frozen=True, slots=True)
class Intent:
    """A signed wish to change a group; any member may carry it. `subject` only for REMOVE."""

    id: IntentId
    group: GroupId
    author: DeviceKey
    kind: IntentKind
    subject: IdentityKey | None = None

    def encode(self) -> bytes:
        message = _record.Intent.new_message(
            id=bytes(self.id), group=bytes(self.group), author=bytes(self.author)
        )
        subject = None if self.subject is None else bytes(self.subject)
        setattr(message, self.kind.value, subject)
        return bytes(message.to_bytes())

    @classmethod
    def decode(cls, payload: bytes) -> Intent:
        """Raises Malformed."""
        with reading(_record.Intent, payload, limit=512, what="intent") as reader:
            kind = IntentKind(which(reader))
            return cls(
                IntentId(reader.id),
                GroupId(reader.group),
                DeviceKey(reader.author),
                kind,
                IdentityKey(reader.remove) if kind is IntentKind.REMOVE else None,
            )


@dataclass(frozen=True, slots=True)
class AuthorMark:
    """What a reader has of one author: everything in base..contiguous but `gaps`."""

    device: DeviceKey
    base: int
    contiguous: int
    gaps: tuple[int, ...]
    read: int

    def covers(self, sequence: int) -> bool:
        """The reader has message number `sequence` decrypted and on disk."""
        return self.base <= sequence <= self.contiguous and sequence not in self.gaps


@dataclass(frozen=True, slots=True)
class Summary:
    """A device's watermarks in one group: receipts, and the start of catch-up."""

    group: GroupId
    epoch_id: EpochId
    head: CommitHash
    number: int
    authors: tuple[AuthorMark, ...]

    def encode(self) -> bytes:
        message = _record.Summary.new_message(
            group=bytes(self.group),
            epochId=bytes(self.epoch_id),
            head=bytes(self.head),
            number=self.number,
        )
        for slot, mark in zip(
            message.init("authors", len(self.authors)), self.authors, strict=True
        ):
            slot.device = bytes(mark.device)
            slot.base = mark.base
            slot.contiguous = mark.contiguous
            slot.gaps = list(mark.gaps)
            slot.read = mark.read
        return bytes(message.to_bytes())

    @classmethod
    def decode(cls, payload: bytes) -> Summary:
        """Raises Malformed."""
        with reading(_record.Summary, payload, limit=SUMMARY_BYTES, what="summary") as reader:
            return cls(
                GroupId(reader.group),
                EpochId(reader.epochId),
                CommitHash(reader.head),
                counter(reader.number),
                items(reader.authors, limits.SUMMARY_AUTHORS, _read_mark),
            )


SUMMARY_BYTES = 512 + limits.SUMMARY_AUTHORS * (72 + limits.SUMMARY_GAPS * 8)


def _read_mark(reader: Any) -> AuthorMark:
    return AuthorMark(
        DeviceKey(reader.device),
        counter(reader.base),
        counter(reader.contiguous),
        items(reader.gaps, limits.SUMMARY_GAPS, counter),
        counter(reader.read),
    )
