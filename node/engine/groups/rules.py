"""Who may change a group: a pure rule over plain data, equal at every member.

A commit that breaks it is invalid for everybody, whatever its place in the order.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from schemas.errors import Refused
from schemas.group_records import MemberRef
from schemas.ids import DeviceKey, IdentityKey
from schemas.messages import GroupInfo, GroupKind, InvitePolicy


@dataclass(frozen=True, slots=True)
class Change:
    """What a commit does: by whom, to whom, and the group info after it."""

    committer: MemberRef
    added: tuple[MemberRef, ...]
    removed: tuple[MemberRef, ...]
    info_after: GroupInfo


def authorise(
    info: GroupInfo,
    members: Collection[IdentityKey],
    change: Change,
    leavers: Collection[DeviceKey] = (),
) -> None:
    """`members` as before the change; `leavers` are devices whose signed wish to leave it carries.

    Raises Refused: `not-an-admin`, `not-allowed-to-invite`, or `direct-group`.
    """
    me = change.committer.identity
    # When the last admin has left, everybody governs: a group must not become unchangeable.
    admin = me in info.admins or not set(info.admins) & set(members)
    strangers = [member for member in change.added if member.identity not in members]
    others = [
        member
        for member in change.removed
        if member.identity != me and member.device not in leavers
    ]
    foreign_devices = [
        member
        for member in change.added
        if member.identity in members and member.identity != me and not admin
    ]
    if info.kind is GroupKind.DIRECT and len(members) > 1 and (strangers or others):
        raise Refused(
            "direct-group",
            "a conversation of two has no other members",
            hint="create a group: quicnprotochat create-group NAME",
        )
    if strangers and not admin and info.invite_policy is InvitePolicy.ADMINS:
        raise Refused("not-allowed-to-invite", "only admins invite here", hint="ask an admin")
    if foreign_devices:
        raise Refused("not-an-admin", "only its owner or an admin adds a person's device")
    if others and not admin:
        raise Refused("not-an-admin", "only admins remove others", hint="ask an admin")
    if change.info_after != info and not admin:
        raise Refused("not-an-admin", "only admins change the group", hint="ask an admin")
