"""What MLS carries: application messages and the group-context extension."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from schemas import limits
from schemas.capnp_codec import counter, ids, load, reading, text, unix_time, which
from schemas.errors import Malformed
from schemas.ids import IdentityKey, MessageId

_message = load("message.capnp")

GROUP_INFO_EXTENSION = 0xF0C1  # private use range of RFC 9420 section 17.3
GROUP_INFO_VERSION = 1


@dataclass(frozen=True, slots=True)
class AppMessage:
    """One message of one author: numbered, and naming what its author had seen.

    `sequence` counts from 1 per author and group; `epoch_base` is the author's first number in
    the epoch it was sent in, so that a newcomer knows where its own history begins.
    """

    id: MessageId
    sequence: int
    epoch_base: int
    lamport: int
    parents: tuple[MessageId, ...]
    sent_at_ms: int
    text: str

    def __post_init__(self) -> None:
        """Of others and of ours alike: what is sent can be read. Raises ValueError."""
        for number in (self.sequence, self.epoch_base, self.lamport):
            counter(number)
        if not 1 <= self.epoch_base <= self.sequence:
            raise ValueError("sequence number before its epoch's first")
        unix_time(self.sent_at_ms // 1000)

    def encode(self) -> bytes:
        message = _message.AppMessage.new_message()  # keyword arguments take four times as long
        message.id = bytes(self.id)
        message.sequence = self.sequence
        message.epochBase = self.epoch_base
        message.lamport = self.lamport
        message.parents = [bytes(parent) for parent in self.parents]
        message.sentAtMs = self.sent_at_ms
        message.text = self.text
        return bytes(message.to_bytes())

    @classmethod
    def decode(cls, data: bytes) -> AppMessage:
        """Raises Malformed."""
        with reading(
            _message.AppMessage, data, limit=limits.APPLICATION_MESSAGE, what="message"
        ) as reader:
            if which(reader) != "text":
                raise Malformed("unknown-kind", "a kind of message this version does not know")
            body = str(reader.text)
            if len(body.encode()) > limits.MESSAGE_TEXT:
                raise ValueError("text too long")
            return cls(
                MessageId(reader.id),
                reader.sequence,
                reader.epochBase,
                reader.lamport,
                ids(reader.parents, limits.MESSAGE_PARENTS, MessageId),
                reader.sentAtMs,
                body,
            )


class GroupKind(StrEnum):
    GROUP = "group"
    DIRECT = "direct"  # one-to-one


class InvitePolicy(StrEnum):
    MEMBERS = "members"
    ADMINS = "admins"


@dataclass(frozen=True, slots=True)
class GroupInfo:
    """The group-context extension, equal at every member: name, kind and who may do what."""

    name: str
    kind: GroupKind
    admins: tuple[IdentityKey, ...]
    invite_policy: InvitePolicy

    def encode(self) -> bytes:
        return bytes(
            _message.GroupInfo.new_message(
                version=GROUP_INFO_VERSION,
                name=self.name,
                kind=self.kind.value,
                admins=[bytes(admin) for admin in self.admins],
                invitePolicy=self.invite_policy.value,
            ).to_bytes()
        )

    @classmethod
    def decode(cls, data: bytes) -> GroupInfo:
        """Raises Malformed."""
        with reading(_message.GroupInfo, data, limit=8 * limits.KIB, what="group-info") as reader:
            if reader.version != GROUP_INFO_VERSION:
                raise Malformed("unknown-group-version", "the group is of a newer version")
            return cls(
                text(reader.name, limits.GROUP_NAME),
                GroupKind(str(reader.kind)),
                ids(reader.admins, limits.GROUP_ADMINS, IdentityKey),
                InvitePolicy(str(reader.invitePolicy)),
            )
