"""Whom an invitation adds, and which leaves they take the place of."""

from __future__ import annotations

from collections.abc import Sequence

from node.engine.core import SUITE_NAMES, Core
from node.store.groups import GroupRow, MemberRow
from schemas import limits
from schemas.errors import Blame, Refused
from schemas.group_records import MemberRef
from schemas.ids import DeviceKey, IdentityKey


def added(
    core: Core, row: GroupRow, people: Sequence[IdentityKey], key_packages: Sequence[bytes]
) -> list[MemberRef]:
    """Whom these KeyPackages add: nobody but `people`.

    The binding checks their signatures and lifetimes. Raises Refused `wrong-key-package`,
    `no-key-package` or `no-bundle`.
    """
    found = []
    for message in key_packages:
        info = core.library.verify_key_package(message)
        device = DeviceKey(info.signature_key)
        identity = core.credential_owner(info.signature_key, info.credential)
        if identity not in people:
            raise Refused("wrong-key-package", "a KeyPackage of somebody else", blame=Blame.PEER)
        if info.suite != row.suite:
            raise Refused(
                "no-key-package",
                f"{core.name_of(identity)} offers no {SUITE_NAMES[row.suite]} KeyPackage",
                blame=Blame.INCOMPATIBLE,
                hint="they must upgrade, or use a classic group",
            )
        if core.people.hybrid_key(device) is None:
            raise Refused(
                "no-bundle",
                f"the bundle of {core.name_of(identity)} is not here yet",
                blame=Blame.ENVIRONMENT,
                hint="they, or one of their relays, must be reachable once",
            )
        found.append(MemberRef(device, identity))
    return found


def replaced(core: Core, row: GroupRow, invited: Sequence[MemberRef]) -> list[MemberRow]:
    """Leaves that these take the place of: of the same devices, which lost the group, and of
    devices that their owner's bundle lists no more."""
    devices = {member.device for member in invited}
    owners = {member.identity for member in invited}
    listed = set()
    for identity in owners:
        bundle = core.people.bundle(identity)
        listed |= {entry.key for entry in bundle[1].devices} if bundle is not None else set()
    return [
        member
        for member in core.groups.members(row.id)
        if member.device in devices or (member.identity in owners and member.device not in listed)
    ]


def check_size(core: Core, row: GroupRow, invited: Sequence[MemberRef]) -> None:
    """Raises Refused `group-full`."""
    before, gone = core.groups.members(row.id), replaced(core, row, invited)
    size = len(before) - len(gone) + len(invited)
    if size > limits.GROUP_DEVICES:
        raise Refused(
            "group-full",
            f"a group of {size} devices; this version goes to {limits.GROUP_DEVICES}",
            hint="use two groups",
        )
