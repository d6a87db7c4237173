"""Signed things about groups: commit headers, statements, intents, summaries."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from schemas import limits
from schemas.capnp_codec import counter, ids, items, load, reading, sized, which
from schemas.ids import CommitHash, DeviceKey, EpochId, GroupId, IdentityKey, IntentId

_record = load("record.capnp")


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
            _fill_members(message.init(field, len(members)), members)
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


def _fill_members(slots: Any, members: tuple[MemberRef, ...]) -> None:
    for slot, member in zip(slots, members, strict=True):
        slot.device = bytes(member.device)
        slot.identity = bytes(member.identity)


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
        with reading(_record.Statement, payload, limit=STATEMENT_BYTES, what="statement") as reader:
            return cls(
                GroupId(reader.group),
                counter(reader.number),
                CommitHash(reader.commit),
                EpochId(reader.epochId),
            )


STATEMENT_BYTES = 512


class IntentKind(StrEnum):
    LEAVE = "leave"
    REMOVE = "remove"
    UPDATE = "update"
    ADD = "add"
    READMIT = "readmit"  # of the author's own device, which cannot enter the branch that won
    PROMOTE = "promote"


_ABOUT_SOMEBODY = frozenset({IntentKind.REMOVE, IntentKind.PROMOTE})


@dataclass(frozen=True, slots=True)
class Intent:
    """A signed wish to change a group; any member may carry it, if its author may do it.

    `subject` only for REMOVE and PROMOTE; `members` only for ADD; `epoch`: where it was signed.
    """

    id: IntentId
    group: GroupId
    author: DeviceKey
    kind: IntentKind
    subject: IdentityKey | None = None
    members: tuple[MemberRef, ...] = ()
    epoch: int = 0
    packages: bytes = b""  # SHA-256 of the KeyPackages that travel beside it

    def encode(self) -> bytes:
        message = _record.Intent.new_message(
            keyPackages=self.packages,
            id=bytes(self.id),
            group=bytes(self.group),
            author=bytes(self.author),
            epoch=self.epoch,
        )
        if self.kind is IntentKind.ADD:
            _fill_members(message.init("add", len(self.members)), self.members)
        else:
            subject = None if self.subject is None else bytes(self.subject)
            setattr(message, self.kind.value, subject)
        return bytes(message.to_bytes())

    @classmethod
    def decode(cls, payload: bytes) -> Intent:
        """Raises Malformed."""
        with reading(_record.Intent, payload, limit=INTENT_BYTES, what="intent") as reader:
            kind = IntentKind(which(reader))
            return cls(
                IntentId(reader.id),
                GroupId(reader.group),
                DeviceKey(reader.author),
                kind,
                IdentityKey(getattr(reader, kind.value)) if kind in _ABOUT_SOMEBODY else None,
                items(reader.add, limits.COMMIT_CHANGES, _read_member)
                if kind is IntentKind.ADD
                else (),
                counter(reader.epoch),
                sized(reader.keyPackages, 32),
            )


INTENT_BYTES = 512 + limits.COMMIT_CHANGES * 96


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
    """A device's watermarks in one group: receipts, and the start of catch-up.

    `tree` is empty in a mere receipt; in a full summary, digests of the commits that it knows and
    of the votes (statements, proofs, open wishes), each the first 16 bytes of a SHA-256.
    """

    group: GroupId
    epoch_id: EpochId
    head: CommitHash
    number: int
    authors: tuple[AuthorMark, ...]
    tree: bytes = b""

    def encode(self) -> bytes:
        message = _record.Summary.new_message(
            group=bytes(self.group),
            epochId=bytes(self.epoch_id),
            head=bytes(self.head),
            number=self.number,
            tree=self.tree,
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
                sized(reader.tree, 32),
            )

    @staticmethod
    def head_of(payload: bytes) -> CommitHash:
        """Its `head` alone, without a walk over hundreds of authors. Raises Malformed."""
        with reading(_record.Summary, payload, limit=SUMMARY_BYTES, what="summary") as reader:
            return CommitHash(reader.head)


SUMMARY_BYTES = 512 + limits.SUMMARY_AUTHORS * (72 + limits.SUMMARY_GAPS * 8)


def _read_mark(reader: Any) -> AuthorMark:
    return AuthorMark(
        DeviceKey(reader.device),
        counter(reader.base),
        counter(reader.contiguous),
        items(reader.gaps, limits.SUMMARY_GAPS, counter),
        counter(reader.read),
    )
