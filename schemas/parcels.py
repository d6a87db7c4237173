"""Parcels, and what is inside their envelope."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from schemas import limits
from schemas.capnp_codec import counter, exactly, items, load, reading, sized, which
from schemas.errors import Malformed
from schemas.group_records import (
    COMMIT_HEADER_BYTES,
    INTENT_BYTES,
    STATEMENT_BYTES,
    SUMMARY_BYTES,
)
from schemas.ids import DeviceKey, EpochId, GroupId, ParcelId
from schemas.records import Signed, fill_signed, read_signed

_parcel = load("parcel.capnp")

NO_GROUP = GroupId(bytes(16))
NO_EPOCH = EpochId(bytes(32))
PARCEL_OVERHEAD = 256  # the Parcel struct around `sealed`
_LENGTH_BYTES = 4
_BUNDLES_LIMIT = 64  # cores or records in one parcel; more go in further parcels


@dataclass(frozen=True, slots=True)
class Parcel:
    """Sealed bytes for one device; `expires` in Unix seconds."""

    id: ParcelId
    recipient: DeviceKey
    expires: int
    sealed: bytes

    def encode(self) -> bytes:
        message = _parcel.Parcel.new_message()
        fill_parcel(message, self)
        return bytes(message.to_bytes())

    @classmethod
    def decode(cls, data: bytes) -> Parcel:
        """Raises Malformed."""
        with reading(
            _parcel.Parcel, data, limit=limits.PARCEL + PARCEL_OVERHEAD, what="parcel"
        ) as reader:
            return read_parcel(reader)


def fill_parcel(builder: Any, parcel: Parcel) -> None:
    builder.id = bytes(parcel.id)
    builder.recipient = bytes(parcel.recipient)
    builder.expires = parcel.expires
    builder.sealed = parcel.sealed


def read_parcel(reader: Any) -> Parcel:
    return Parcel(
        ParcelId(reader.id),
        DeviceKey(reader.recipient),
        counter(reader.expires),
        sized(reader.sealed, limits.PARCEL),
    )


# --- inside the envelope


@dataclass(frozen=True, slots=True)
class MessageContent:
    """An MLS PrivateMessage."""

    mls: bytes


@dataclass(frozen=True, slots=True)
class CommitContent:
    """A signed header, the commit (an MLS PublicMessage), and the intents that it carries."""

    header: Signed
    mls: bytes
    intents: tuple[Signed, ...] = ()


@dataclass(frozen=True, slots=True)
class BundleDigest:
    """Which bundle of a member follows the Welcome."""

    device: DeviceKey
    number: int
    bundle_hash: bytes


@dataclass(frozen=True, slots=True)
class WelcomeContent:
    """An MLS Welcome, the header of its commit and the inviter's bundle core.

    `tree_chunks` are SHA-256 of the tree's parts, which follow; empty when the tree is inside.
    """

    mls: bytes
    header: Signed
    inviter: Signed
    members: tuple[BundleDigest, ...]
    tree_chunks: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class TreeChunkContent:
    """A part of a ratchet tree that a Welcome names by its SHA-256."""

    data: bytes


@dataclass(frozen=True, slots=True)
class BundlesContent:
    """Bundle cores and endpoint records of people that the reader should be able to reach."""

    cores: tuple[Signed, ...] = ()
    endpoints: tuple[Signed, ...] = ()
    private: Signed | None = None  # a BundlePrivate


@dataclass(frozen=True, slots=True)
class SummaryContent:
    summary: Signed


@dataclass(frozen=True, slots=True)
class IntentContent:
    """`key_packages` are of the devices that it adds, as MLSMessages."""

    intent: Signed
    key_packages: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class HeadsContent:
    """What fork choice goes by: headers, statements, and proofs of equivocation (two statements
    of one device under one number). Each stands for itself, whoever sent it."""

    headers: tuple[Signed, ...] = ()
    statements: tuple[Signed, ...] = ()
    proofs: tuple[tuple[Signed, Signed], ...] = ()


Content = (
    MessageContent
    | CommitContent
    | WelcomeContent
    | BundlesContent
    | SummaryContent
    | IntentContent
    | TreeChunkContent
    | HeadsContent
)


@dataclass(frozen=True, slots=True)
class ParcelBody:
    """The envelope's plaintext."""

    parcel: ParcelId
    content: Content
    group: GroupId = NO_GROUP
    epoch_id: EpochId = NO_EPOCH
    statement: Signed | None = field(default=None)

    def encode(self) -> bytes:
        message = _parcel.ParcelBody.new_message()
        message.parcel = bytes(self.parcel)
        message.group = bytes(self.group)
        message.epochId = bytes(self.epoch_id)
        if self.statement is not None:
            fill_signed(message.init("statement"), self.statement)
        _fill_content(message, self.content)
        return bytes(message.to_bytes())

    @classmethod
    def decode(cls, data: bytes) -> ParcelBody:
        """Raises Malformed."""
        with reading(_parcel.ParcelBody, data, limit=limits.PARCEL, what="parcel-body") as reader:
            return cls(
                ParcelId(reader.parcel),
                _read_content(reader),
                GroupId(reader.group),
                EpochId(reader.epochId),
                read_signed(reader.statement, STATEMENT_BYTES)
                if reader._has("statement")
                else None,
            )


def readdress(body: bytes, parcel: ParcelId) -> bytes:
    """An encoded ParcelBody under another parcel id; the rest is not looked at.

    Raises Malformed.
    """
    with reading(_parcel.ParcelBody, body, limit=limits.PARCEL, what="parcel-body") as reader:
        message = reader.as_builder()
        message.parcel = bytes(parcel)
        return bytes(message.copy().to_bytes())  # without the old id's place


def _fill_content(message: Any, content: Content) -> None:
    match content:
        case MessageContent(mls):
            message.message = mls
        case CommitContent(header, mls, intents):
            commit = message.init("commit")
            fill_signed(commit.init("header"), header)
            commit.mls = mls
            for slot, intent in zip(commit.init("intents", len(intents)), intents, strict=True):
                fill_signed(slot, intent)
        case WelcomeContent():
            welcome = message.init("welcome")
            welcome.mls = content.mls
            fill_signed(welcome.init("header"), content.header)
            fill_signed(welcome.init("inviter"), content.inviter)
            slots = welcome.init("members", len(content.members))
            for slot, digest in zip(slots, content.members, strict=True):
                slot.device = bytes(digest.device)
                slot.number = digest.number
                slot.bundleHash = digest.bundle_hash
            welcome.treeChunks = list(content.tree_chunks)
        case BundlesContent():
            bundles = message.init("bundles")
            for name, records in (("cores", content.cores), ("endpoints", content.endpoints)):
                for slot, record in zip(bundles.init(name, len(records)), records, strict=True):
                    fill_signed(slot, record)
            if content.private is not None:
                fill_signed(bundles.init("privatePart"), content.private)
        case SummaryContent(summary):
            fill_signed(message.init("summary"), summary)
        case IntentContent(intent, ()):
            fill_signed(message.init("intent"), intent)
        case IntentContent(intent, key_packages):
            wish = message.init("wish")
            fill_signed(wish.init("intent"), intent)
            wish.keyPackages = list(key_packages)
        case HeadsContent():
            _fill_heads(message.init("heads"), content)
        case TreeChunkContent(data):
            message.treeChunk = data


def _read_content(reader: Any) -> Content:
    match which(reader):
        case "message":
            return MessageContent(sized(reader.message, limits.PARCEL))
        case "commit":
            commit = reader.commit
            return CommitContent(
                read_signed(commit.header, COMMIT_HEADER_BYTES),
                sized(commit.mls, limits.PARCEL),
                items(
                    commit.intents,
                    limits.COMMIT_CHANGES,
                    lambda r: read_signed(r, INTENT_BYTES),
                ),
            )
        case "welcome":
            welcome = reader.welcome
            return WelcomeContent(
                sized(welcome.mls, limits.PARCEL),
                read_signed(welcome.header, COMMIT_HEADER_BYTES),
                read_signed(welcome.inviter, limits.BUNDLE),
                items(welcome.members, limits.SUMMARY_AUTHORS, _read_digest),
                items(welcome.treeChunks, limits.TREE_CHUNKS, lambda digest: exactly(digest, 32)),
            )
        case "bundles":
            bundles = reader.bundles
            return BundlesContent(
                items(bundles.cores, _BUNDLES_LIMIT, lambda r: read_signed(r, limits.BUNDLE)),
                items(
                    bundles.endpoints,
                    _BUNDLES_LIMIT,
                    lambda r: read_signed(r, limits.ENDPOINT_RECORD),
                ),
                read_signed(bundles.privatePart, limits.BUNDLE_PRIVATE)
                if bundles._has("privatePart")
                else None,
            )
        case "summary":
            return SummaryContent(read_signed(reader.summary, SUMMARY_BYTES))
        case "intent":
            return IntentContent(read_signed(reader.intent, INTENT_BYTES))
        case "wish":
            return IntentContent(
                read_signed(reader.wish.intent, INTENT_BYTES),
                items(
                    reader.wish.keyPackages,
                    limits.COMMIT_CHANGES,
                    lambda data: sized(data, limits.KEY_PACKAGE),
                ),
            )
        case "heads":
            return _read_heads(reader.heads)
        case "treeChunk":
            return TreeChunkContent(sized(reader.treeChunk, limits.TREE_CHUNK))
        case other:
            raise Malformed("unknown-kind", f"a parcel of unknown kind {other!r}")


def _fill_heads(heads: Any, content: HeadsContent) -> None:
    for name, records in (("headers", content.headers), ("statements", content.statements)):
        for slot, record in zip(heads.init(name, len(records)), records, strict=True):
            fill_signed(slot, record)
    for slot, proof in zip(heads.init("proofs", len(content.proofs)), content.proofs, strict=True):
        fill_signed(slot.init("first"), proof[0])
        fill_signed(slot.init("second"), proof[1])


def _read_heads(reader: Any) -> HeadsContent:
    return HeadsContent(
        items(reader.headers, limits.HEADS, lambda r: read_signed(r, COMMIT_HEADER_BYTES)),
        items(reader.statements, limits.HEADS, lambda r: read_signed(r, STATEMENT_BYTES)),
        items(
            reader.proofs,
            limits.HEADS,
            lambda r: (
                read_signed(r.first, STATEMENT_BYTES),
                read_signed(r.second, STATEMENT_BYTES),
            ),
        ),
    )


def _read_digest(reader: Any) -> BundleDigest:
    return BundleDigest(
        DeviceKey(reader.device), counter(reader.number), exactly(reader.bundleHash, 32)
    )


# --- padding: sizes tell a relay nothing finer than a class


def pad(body: bytes) -> bytes:
    """Length (4 bytes, little-endian), body, zeros up to a size class."""
    need = _LENGTH_BYTES + len(body)
    step = limits.PARCEL_SIZE_STEP
    size = next((c for c in limits.PARCEL_SIZE_CLASSES if c >= need), -(-need // step) * step)
    return len(body).to_bytes(_LENGTH_BYTES, "little") + body + bytes(size - need)


def unpad(plaintext: bytes) -> bytes:
    """The body of a padded plaintext. Raises Malformed."""
    length = int.from_bytes(plaintext[:_LENGTH_BYTES], "little")
    end = _LENGTH_BYTES + length
    if len(plaintext) < _LENGTH_BYTES or end > len(plaintext) or any(plaintext[end:]):
        raise Malformed("malformed-padding", "a parcel's padding is wrong")
    return plaintext[_LENGTH_BYTES:end]
