"""Who may change a group: a pure rule over plain data, equal at every member.

A commit that breaks it is invalid for everybody, whatever its place in the order. What a commit
may do is decided by its committer and by the signed wishes of members that it carries.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from schemas.errors import Refused
from schemas.group_records import Intent, IntentKind, MemberRef
from schemas.ids import DeviceKey, IdentityKey
from schemas.messages import GroupInfo, GroupKind, InvitePolicy

FRESH_EPOCHS = 64  # how far from its commit a wish may have been signed, as snapshots reach back


@dataclass(frozen=True, slots=True)
class Change:
    """What a commit does: by whom, to whom, and the group info after it."""

    committer: MemberRef
    added: tuple[MemberRef, ...]
    removed: tuple[MemberRef, ...]
    info_after: GroupInfo


@dataclass(frozen=True, slots=True)
class _Authority:
    """Who asks for a change: the committer, or members whose wishes the commit carries."""

    info: GroupInfo
    members: Mapping[DeviceKey, IdentityKey]
    committer: IdentityKey
    intents: tuple[Intent, ...]

    def governs(self, identity: IdentityKey) -> bool:
        """When the last admin has left, everybody does: a group must not become unchangeable."""
        return identity in self.info.admins or not set(self.info.admins) & set(
            self.members.values()
        )

    def readmitted(self, member: MemberRef) -> bool:
        """The device itself asks for a new leaf in place of its own."""
        return self.members.get(member.device) == member.identity and any(
            intent.kind is IntentKind.READMIT and intent.author == member.device
            for intent in self.intents
        )

    def inviters(self, member: MemberRef) -> set[IdentityKey]:
        found = {
            self.members[intent.author]
            for intent in self.intents
            if intent.kind is IntentKind.ADD and member in intent.members
        }
        return found | {self.committer}

    def may_add(self, member: MemberRef) -> None:
        """Raises Refused."""
        inviters = self.inviters(member)
        if member.identity not in self.members.values():
            everybody = self.info.invite_policy is not InvitePolicy.ADMINS
            if not everybody and not any(self.governs(inviter) for inviter in inviters):
                raise Refused(
                    "not-allowed-to-invite", "only admins invite here", hint="ask an admin"
                )
        elif not (
            member.identity in inviters
            or self.readmitted(member)
            or any(self.governs(inviter) for inviter in inviters)
        ):
            raise Refused("not-an-admin", "only its owner or an admin adds a person's device")

    def may_remove(self, member: MemberRef, added: Sequence[MemberRef]) -> None:
        """Raises Refused."""
        who = {self.committer}
        for intent in self.intents:
            if intent.kind is IntentKind.LEAVE and intent.author == member.device:
                return
            # A device that is added for a person may take the place of another of theirs.
            if (intent.kind is IntentKind.REMOVE and intent.subject == member.identity) or (
                intent.kind is IntentKind.ADD
                and any(other.identity == member.identity for other in intent.members)
            ):
                who.add(self.members[intent.author])
        if member.identity in who or any(self.governs(one) for one in who):
            return
        if member in added and self.readmitted(member):
            return
        raise Refused("not-an-admin", "only admins remove others", hint="ask an admin")

    def may_become(self, info_after: GroupInfo) -> None:
        """Raises Refused."""
        if info_after == self.info or self.governs(self.committer):
            return
        promoted = [
            intent.subject
            for intent in self.intents
            if intent.kind is IntentKind.PROMOTE
            and intent.subject is not None
            and self.governs(self.members[intent.author])
        ]
        if info_after != with_admins(self.info, promoted):
            raise Refused("not-an-admin", "only admins change the group", hint="ask an admin")


def authorise(
    info: GroupInfo,
    members: Mapping[DeviceKey, IdentityKey],
    change: Change,
    intents: Sequence[Intent] = (),
) -> None:
    """`info` and `members` as before the change; a wish of a device that is no member is nothing.

    Raises Refused: `not-an-admin`, `not-allowed-to-invite`, or `direct-group`.
    """
    heard = tuple(intent for intent in intents if intent.author in members)
    authority = _Authority(info, members, change.committer.identity, heard)
    if info.kind is GroupKind.DIRECT:
        _stays_of_two(authority, change)
    for member in change.added:
        authority.may_add(member)
    for member in change.removed:
        authority.may_remove(member, change.added)
    authority.may_become(change.info_after)


def _stays_of_two(authority: _Authority, change: Change) -> None:
    """Raises Refused `direct-group`."""
    people = set(authority.members.values())
    leavers = {i.author for i in authority.intents if i.kind is IntentKind.LEAVE}
    strangers = [member for member in change.added if member.identity not in people]
    others = [
        member
        for member in change.removed
        if member.identity != authority.committer
        and member.device not in leavers
        and not authority.readmitted(member)
    ]
    if len(people) > 1 and (strangers or others):
        raise Refused(
            "direct-group",
            "a conversation of two has no other members",
            hint="create a group: quicnprotochat create-group NAME",
        )


def is_fresh(intent: Intent, epoch: int) -> bool:
    """Whether a commit that opens this epoch may carry it: nobody acts on what was long settled."""
    return abs(epoch - intent.epoch) <= FRESH_EPOCHS


def with_admins(info: GroupInfo, people: Sequence[IdentityKey]) -> GroupInfo:
    """The group's info with these among its admins, in order."""
    return replace(info, admins=tuple(dict.fromkeys([*info.admins, *people])))
