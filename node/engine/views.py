"""From rows to what users see: groups, and finding them by what people type."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from node.engine import commands, values
from node.engine.core import SUITE_NAMES, Core, GroupDamaged, group_info
from node.engine.standing import farthest, places
from node.engine.values import LIVE, OVER, GroupStatus
from node.store.groups import GroupRow
from schemas.errors import Refused
from schemas.ids import DeviceKey, GroupId, IdentityKey
from schemas.messages import GroupKind

PREFIX_DIGITS = 6


def group_view(core: Core, row: GroupRow) -> values.GroupView:
    """A group with its members, people first seen first."""
    devices: dict[IdentityKey, list[DeviceKey]] = {}
    for member in core.groups.members(row.id):
        devices.setdefault(member.identity, []).append(member.device)
    status = GroupStatus(row.status)
    admins: tuple[IdentityKey, ...] = ()
    if devices and status is not GroupStatus.RESTORED:
        try:
            admins = group_info(core.mls_group(row.id)).admins
        except GroupDamaged:
            status = GroupStatus.DAMAGED
    members = tuple(
        values.MemberView(
            identity,
            tuple(keys),
            core.name_of(identity),
            "admin" if identity in admins else "member",
        )
        for identity, keys in devices.items()
    )
    return values.GroupView(
        row.id,
        row.name or _peer_name(core, row, members),
        row.kind,
        row.epoch,
        SUITE_NAMES[row.suite],
        status,
        row.accepted,
        row.inviter,
        members,
        row.epoch_id,
    )


def _peer_name(core: Core, row: GroupRow, members: tuple[values.MemberView, ...]) -> str:
    """A conversation of two is called after the other person."""
    me = core.identity.public
    others = [member.name for member in members if member.identity != me]
    if others:
        return others[0]
    return core.name_of(row.inviter) if row.inviter is not None else str(row.id)[:8]


def list_groups(core: Core, _: commands.ListGroups) -> tuple[values.GroupView, ...]:
    return tuple(_shown(core))


def _shown(core: Core) -> list[values.GroupView]:
    """All groups; of two conversations with one person the lower id stays, the other is hidden."""
    views = [group_view(core, row) for row in core.groups.all()]
    kept: dict[frozenset[IdentityKey], GroupId] = {}
    for view in views:
        if _is_live_direct(core, view):
            pair = frozenset(member.identity for member in view.members)
            kept[pair] = min(view.group, kept.get(pair, view.group))
    return [
        view for view in views if not _is_live_direct(core, view) or view.group in kept.values()
    ]


def _is_live_direct(core: Core, view: values.GroupView) -> bool:
    return (
        view.kind == GroupKind.DIRECT.value
        and view.status in LIVE
        and len(view.members) == 2
        and all(_is_current(core, member.identity, member.devices) for member in view.members)
    )


def _is_current(core: Core, identity: IdentityKey, devices: Iterable[DeviceKey]) -> bool:
    """One of these devices is theirs still: who restored a backup has another."""
    current = core.people.devices(identity)
    return not current or any(device in current for device in devices)


def list_requests(core: Core, _: commands.ListRequests) -> tuple[values.RequestView, ...]:
    waiting = [row for row in core.groups.all() if not row.accepted and row.status in LIVE]
    return tuple(
        values.RequestView(
            row.id,
            group_view(core, row).name,
            row.kind,
            row.inviter,
            core.name_of(row.inviter),
            core.people.contact(row.inviter) is not None,
        )
        for row in waiting
        if row.inviter is not None and not core.people.is_blocked(row.inviter)
    )


def find_group(core: Core, command: commands.FindGroup) -> values.GroupView:
    text = command.text.strip()
    everything = [group_view(core, row) for row in core.groups.all()]
    by_id = [view for view in everything if _matches(view.group.hex(), text)]
    views = _shown(core)
    alive = [view for view in views if view.status not in OVER]
    by_name = [view for view in alive if view.name == text]
    by_name = by_name or [view for view in views if view.name == text]
    found = by_id or by_name
    if not found:
        raise Refused("unknown-group", f"no group {text!r}", hint="quicnprotochat groups")
    if len(found) > 1:
        ids = ", ".join(view.group.hex()[:8] for view in found)
        raise Refused("ambiguous-name", f"{text!r} could be {ids}", hint="use the group's id")
    return _with_standings(core, found[0]) if command.standings else found[0]


def _with_standings(core: Core, view: values.GroupView) -> values.GroupView:
    known = places(core, core.group(view.group))
    members = []
    for member in view.members:
        place = farthest(member, known)
        members.append(replace(member, epoch=place.epoch, standing=place.standing))
    return replace(view, members=tuple(members))


def find_direct(core: Core, command: commands.FindDirect) -> values.GroupView | None:
    """Of two that both sides made at once, the lower id stays."""
    rows = []
    for row in core.groups.all():
        if row.kind == GroupKind.DIRECT.value and row.status in LIVE:
            members = core.groups.members(row.id)
            theirs = [m.device for m in members if m.identity == command.identity]
            if theirs and _is_current(core, command.identity, theirs):
                rows.append(row)
    if not rows:
        return None
    return group_view(core, min(rows, key=lambda row: row.id))


def _matches(key: str, text: str) -> bool:
    return len(text) >= PREFIX_DIGITS and key.startswith(text.lower())


def matching_key(text: str, key: GroupId | IdentityKey) -> bool:
    """Whether `text` is this key or a prefix of at least 6 digits of it."""
    return _matches(key.hex(), text.strip())
