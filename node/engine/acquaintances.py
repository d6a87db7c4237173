"""Whom this device may be brought together with, and by whom."""

from __future__ import annotations

from node.engine import delivery_commands as d
from node.engine.core import Core
from schemas.ids import DeviceKey


def acquainted(core: Core, command: d.Acquainted) -> bool:
    """A contact's device, or a member's of a group that we accepted; not of somebody blocked."""
    people = core.people
    identity = people.owner(command.device)
    if identity is None or people.is_blocked(identity):
        return False
    return people.contact(identity) is not None or people.shares_accepted_group(identity)


def introducers(core: Core, command: d.Introducers) -> tuple[DeviceKey, ...]:
    """Members of a group that the device is in know already that we both are. Others learn from
    being asked whom we look for, so they are asked only about who has no relay."""
    people = core.people
    mates = people.fellow_members(command.device)
    others = [] if command.has_relay else people.acquaintances(core.device.public)
    wanted = dict.fromkeys((*mates, *others))
    return tuple(
        device
        for device in wanted
        if device in core.linked
        and device != command.device
        and not people.is_blocked_device(device)
    )
