"""The JSON that goes over the control socket: requests and answers, under the names of cli.md.

Ids are hex, times are UTC in ISO-8601. The command line prints answers as they are here.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

TEXT_LIMIT = 64 * 1024  # of a message, in characters; the engine counts bytes
Selector = Annotated[str, Meta(min_length=1, max_length=1024)]
"""A person or group as people name them: key, id, unique prefix, name, or (a person) a card."""
OptionalText = Annotated[str, Meta(max_length=1024)]


class Request(Struct, forbid_unknown_fields=True):
    """Base of what is asked; a misspelt field is an error, not a silence."""


class Answer(Struct):
    """Base of what is answered."""

    def to_json(self) -> dict[str, object]:
        fields: dict[str, object] = msgspec.to_builtins(self)
        return fields


# --- requests


class Nothing(Request):
    """No parameters."""


class ByPerson(Request):
    person: Selector


class ByGroup(Request):
    group: Selector


class ByMessage(Request):
    """A message id, or a unique prefix of at least 6 digits."""

    message: Selector


class BackUp(Request):
    """`file` is absolute; a file that exists is not replaced."""

    file: Annotated[str, Meta(min_length=1, max_length=4096)]
    passphrase: Selector


class ExportParcels(Request):
    """`file` is absolute; one that exists is replaced only with `replace`. `to`: what waits for
    that person or group alone; empty: all of it."""

    file: Annotated[str, Meta(min_length=1, max_length=4096)]
    to: OptionalText = ""
    replace: bool = False


class ImportParcels(Request):
    """`file` is absolute."""

    file: Annotated[str, Meta(min_length=1, max_length=4096)]


class AddContact(Request):
    card: Selector


class SetName(Request):
    name: Selector


class FetchKey(Request):
    person: Selector
    suite: Annotated[str, Meta(pattern="^(hybrid|classic|)$")] = ""


class CreateGroup(Request):
    name: Selector
    suite: Annotated[str, Meta(pattern="^(hybrid|classic)$")] = "hybrid"


class Invite(Request):
    """With `again` who is a member is one anew: for a device that lost the group."""

    group: Selector
    people: Annotated[list[Selector], Meta(min_length=1, max_length=250)]
    role: Annotated[str, Meta(pattern="^(member|admin)$")] = "member"
    again: bool = False


class Remove(Request):
    group: Selector
    person: Selector


class Send(Request):
    """To a group, or to a person (the one-to-one group is made if there is none)."""

    text: Annotated[str, Meta(min_length=1, max_length=TEXT_LIMIT)]
    group: OptionalText = ""
    person: OptionalText = ""


class ReadMessages(Request):
    """What a cursor has not acknowledged; `group` empty: of all accepted groups."""

    cursor: Annotated[str, Meta(min_length=1, max_length=64)] = "default"
    group: OptionalText = ""
    limit: Annotated[int, Meta(ge=1, le=500)] = 200


class ReadHistory(Request):
    """The last messages of a group past an arrival number, our own among them."""

    group: Selector
    after: Annotated[int, Meta(ge=0, le=2**62)] = 0
    limit: Annotated[int, Meta(ge=1, le=500)] = 50


class Seen(Request):
    group: str
    arrival: int


class MoveCursor(Request):
    cursor: Annotated[str, Meta(min_length=1, max_length=64)]
    seen: Annotated[list[Seen], Meta(min_length=1, max_length=500)]


# --- answers


class NodeStatus(Answer):
    """The process that answers; `lasting` is `run`, else it ends with the command that made it.

    `counters`: what was dropped, refused or went wrong since it started, by reason.
    """

    pid: int
    lasting: bool
    version: str
    listen: str
    device: str
    uptime_s: float
    counters: dict[str, int] = {}


class Account(Answer):
    identity: str
    device: str
    name: str
    card: str
    relays: list[str]
    addresses: list[str]
    safety_number: str


class BackedUp(Answer):
    file: str
    bytes: int


class Named(Answer):
    """A person."""

    identity: str
    name: str


class ExportedParcels(Answer):
    """`keyless` parcels stayed out: there are no keys to seal them with yet. `introduces`: the
    file holds what its reader needs to invite us."""

    file: str
    parcels: int
    bytes: int
    keyless: int
    recipients: list[Named]
    introduces: bool


class ImportedParcels(Answer):
    """`parcels` is the sum of what was new, known before, for others, for later (once what it
    follows is here) and refused, by reason. `introduced` can be invited and written to now;
    `strangers` says who was introduced and is no contact."""

    file: str
    parcels: int
    bytes: int
    new: int
    known: int
    others: int
    later: int
    refused: dict[str, int]
    introduced: list[Named]
    strangers: list[str]


class Registered(Answer):
    device: str
    fingerprint: str
    relay: str
    suite: str
    stock: int


class FetchedKey(Answer):
    identity: str
    device: str
    fingerprint: str
    relay: str
    suite: str
    last_resort: bool


class KeyHolding(Answer):
    identity: str
    device: str
    relay: str
    bundle_number: int | None
    hybrid_key: bool
    endpoint: bool


class Contact(Answer):
    """`device` is the first of `devices`, null while none is known."""

    identity: str
    device: str | None
    devices: list[str]
    name: str
    verified: bool
    safety_number: str
    reachable: bool


class Member(Answer):
    """`epoch` and `standing` (here, behind, ahead, elsewhere or unknown) only of one group that
    is asked for: where the farthest of the devices stands."""

    identity: str
    devices: list[str]
    name: str
    role: str
    epoch: int | UnsetType | None = UNSET
    standing: str | UnsetType = UNSET


class Blocked(Answer):
    """Somebody blocked."""

    identity: str
    name: str
    since: str


class Group(Answer):
    group: str
    name: str
    kind: str
    epoch: int
    suite: str
    status: str
    accepted: bool
    inviter: str | None
    members: list[Member]


class Examined(Answer):
    """One thing about a group that was looked at; `fix` is empty when there is nothing to do."""

    name: str
    ok: bool
    detail: str
    fix: str


class Invited(Answer):
    """`invited` are identity keys."""

    group: str
    name: str
    epoch: int
    invited: list[str]


class Invitation(Answer):
    """`identity` is the inviter's, `name` the group's (for one-to-one, the inviter's)."""

    group: str
    inviter: str
    identity: str
    name: str
    kind: str
    inviter_name: str
    inviter_is_contact: bool


class Sent(Answer):
    message: str
    group: str
    status: str


class Message(Answer):
    """`arrival` is what cursors count; `own` is written here."""

    message: str
    group: str
    sender: str
    text: str
    sent_at: str
    received_at: str
    path: str
    sender_name: str
    group_name: str
    device: str
    arrival: int
    own: bool = False


class LedgerRow(Answer):
    identity: str
    device: str
    state: str
    path: str | None
    relay: str | None
    held_until: str | None
    updated_at: str
    reason: str | None
    name: str
    by: str | None = None  # the identity of the member who has it and hands it on
    by_name: str = ""


class WhyRow(Answer):
    identity: str
    sentence: str
    action: str
    device: str
    name: str = ""
    state: str = ""


class Done(Answer):
    """It is done, and on disk."""


# --- errors


class ErrorDetail(Answer):
    """`blame` is peer, incompatible, caller or environment; `retry_after_s` is when the same may
    pass, 0 where nobody said."""

    code: str
    message: str
    hint: str = ""
    blame: str = "caller"
    retry_after_s: float = 0.0


class ErrorAnswer(Answer):
    error: ErrorDetail
