"""What MLS asks of us before a commit takes effect, ours or another's: may it?

The answer comes from the commit and from the group before it alone, so that all members give the
same one. The wishes that authorise a change travel in the commit's authenticated data.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import mls_rs

from identity.signing import open_signed
from node.engine.groups.rules import Change, authorise, is_fresh
from schemas import limits
from schemas.errors import Blame, Fault, Malformed, Refused
from schemas.group_records import Intent, MemberRef
from schemas.ids import DeviceKey, IdentityKey
from schemas.messages import GROUP_INFO_EXTENSION, GroupInfo
from schemas.records import Signed, SignedType


def authorize_commit(change: mls_rs.Change) -> None:
    """For `mls_rs.Client`. Raises Refused, Malformed, or Fault `not-our-group`."""
    before, after = dict(change.extensions_before), dict(change.extensions_after)
    info, info_after = (info_of(each.pop(GROUP_INFO_EXTENSION, None)) for each in (before, after))
    if before != after:
        raise Refused("foreign-extension", "a commit that changes what is not ours")
    intents = [_opened(signed) for signed in decode_intents_untrusted(change.authenticated_data)]
    if any(intent.group != change.group_id for intent in intents):
        raise Malformed("wrong-intent", "a wish about another group")
    if not all(is_fresh(intent, change.epoch) for intent in intents):
        raise Refused("old-intent", "a wish of long ago")
    members = [member_ref(member) for member in change.members]
    authorise(
        info,
        {member.device: member.identity for member in members},
        Change(
            member_ref(change.committer),
            tuple(member_ref(member) for member in change.added),
            tuple(member_ref(member) for member in change.removed),
            info_after,
        ),
        intents,
    )


@contextmanager
def in_our_words() -> Iterator[None]:
    """What our rules refused is a Fault again; MLS wraps it in an exception of its own."""
    try:
        yield
    except mls_rs.RefusedByRules as error:
        if isinstance(error.__cause__, Fault):
            raise error.__cause__ from None
        raise


def info_of(extension: bytes | None) -> GroupInfo:
    """Raises Fault `not-our-group` for a group made by another program."""
    if extension is None:
        raise Fault(
            "not-our-group",
            "a group without this program's extension",
            blame=Blame.INCOMPATIBLE,
            hint="its creator must use quicnprotochat",
        )
    return GroupInfo.decode(extension)


def member_ref(member: mls_rs.Member) -> MemberRef:
    """The credential was checked by the client's validator before it got here."""
    return MemberRef(DeviceKey(member.signature_key), IdentityKey(member.credential[:32]))


def encode_intents(intents: Sequence[Signed]) -> bytes:
    """Each after its length in four bytes, little-endian."""
    return b"".join(
        len(data).to_bytes(4, "little") + data for data in (each.encode() for each in intents)
    )


def decode_intents_untrusted(data: bytes) -> list[Signed]:
    """What `encode_intents` made, exactly. Raises Malformed."""
    found: list[Signed] = []
    at = 0
    while at < len(data):
        end = at + 4 + int.from_bytes(data[at : at + 4], "little")
        if end > len(data) or len(found) >= limits.COMMIT_CHANGES:
            raise Malformed("bad-intents", "not the wishes that a commit carries")
        found.append(Signed.decode(data[at + 4 : end]))
        at = end
    if encode_intents(found) != data:
        raise Malformed("bad-intents", "not the wishes that a commit carries")
    return found


def _opened(signed: Signed) -> Intent:
    return open_signed(SignedType.INTENT, signed, Intent.decode, lambda intent: intent.author)
