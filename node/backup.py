"""What a backup holds, and its bytes before they are sealed: MessagePack of the structs below.

Neither MLS state nor a device key is in it: a home is never cloned. Restoring makes a new device.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct

from identity.bundle import open_bundle_untrusted
from schemas.card import Card
from schemas.errors import Fault, Refused
from schemas.ids import DeviceKey, EpochId, GroupId, Id, IdentityKey, MessageId
from schemas.records import Signed

FORMAT: Final = "quicnprotochat backup"
VERSION: Final = 1
RESTORED: Final = "restored"  # reason in the ledger of what was under way

Seed = Annotated[bytes, Meta(min_length=32, max_length=32)]


class Person(Struct, array_like=True):
    """A contact: the card's bytes, whether verified, when added (Unix seconds)."""

    card: bytes
    verified: bool
    added: float


class Group(Struct, array_like=True):
    """A group as this device knew it; members as (device, identity)."""

    id: bytes
    incarnation: int
    name: str
    kind: str
    suite: int
    status: str
    accepted: bool
    inviter: bytes | None
    epoch: int
    epoch_id: bytes
    lamport: int
    tips: bytes
    joined: float
    members: list[tuple[bytes, bytes]]


class Message(Struct, array_like=True):
    """A row of the table `messages`; `sent_ms` in Unix milliseconds."""

    arrival: int
    group: bytes
    author: bytes
    id: bytes
    identity: bytes
    sequence: int
    lamport: int
    parents: bytes
    sent_ms: int
    received: float
    own: bool
    path: str
    text: str


class Delivery(Struct, array_like=True):
    """A row of the table `ledger`."""

    message: bytes
    device: bytes
    identity: bytes
    group: bytes
    sequence: int
    state: str
    path: str | None
    relay: str | None
    held_until: float | None
    reason: str | None
    updated: float
    carrier: bytes | None = None  # backups of older versions end before it


class Backup(Struct):
    """One person's account and history. Times are Unix seconds unless the name says ms."""

    format: str
    version: int
    made: float
    identity_seed: Seed
    discovery_secret: bytes
    name: str
    bundle_number: int
    relays: list[str]
    contacts: list[Person]
    bundles: list[bytes]  # Signed, of others
    blocked: list[tuple[bytes, float]]
    groups: list[Group]
    messages: list[Message]
    cursors: list[tuple[str, bytes, int]]
    ledger: list[Delivery]


def encode(backup: Backup) -> bytes:
    return msgspec.msgpack.encode(backup)


def decode_untrusted(data: bytes) -> Backup:
    """A backup whose every id, card and bundle is what it claims to be.

    Raises Refused `bad-backup`, `backup-newer`.
    """
    try:
        head = msgspec.msgpack.decode(data, type=_Head)
        if head.format == FORMAT and head.version > VERSION:
            raise Refused(
                "backup-newer",
                f"a backup of version {head.version}; this program knows {VERSION}",
                hint="upgrade this program",
            )
        backup = msgspec.msgpack.decode(data, type=Backup)
        if backup.format != FORMAT or backup.version != VERSION:
            raise ValueError("another format")
        _check(backup)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise _bad(str(error)) from None
    except Refused:
        raise
    except Fault as fault:
        raise _bad(fault.message) from None
    return backup


class _Head(Struct):
    format: str
    version: int


def _bad(why: str) -> Refused:
    return Refused("bad-backup", f"this is not a backup of this program: {why[:200]}")


def _check(backup: Backup) -> None:
    """Raises ValueError or Malformed."""
    for contact in backup.contacts:
        Card.decode(contact.card)
    for signed in backup.bundles:
        open_bundle_untrusted(Signed.decode(signed))
    _ids(IdentityKey, (identity for identity, _ in backup.blocked))
    for group in backup.groups:
        _ids(GroupId, (group.id,))
        _ids(EpochId, (group.epoch_id,))
        _ids(DeviceKey, (device for device, _ in group.members))
        _ids(IdentityKey, (identity for _, identity in group.members))
        if group.inviter is not None:
            _ids(IdentityKey, (group.inviter,))
        _packed(group.tips)
    known = {group.id for group in backup.groups}
    for message in backup.messages:
        _ids(DeviceKey, (message.author,))
        _ids(IdentityKey, (message.identity,))
        _ids(MessageId, (message.id,))
        _packed(message.parents)
        if message.group not in known or message.arrival < 1:
            raise ValueError("a message of no group")
    for row in backup.ledger:
        _ids(MessageId, (row.message,))
        _ids(DeviceKey, (row.device,) if row.carrier is None else (row.device, row.carrier))
        _ids(IdentityKey, (row.identity,))
        _ids(GroupId, (row.group,))


def _ids(kind: type[Id], values: Iterable[bytes]) -> None:
    for value in values:
        kind(value)


def _packed(ids: bytes) -> None:
    if len(ids) % MessageId.LENGTH:
        raise ValueError("half a message id")
