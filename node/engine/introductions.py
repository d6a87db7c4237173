"""Bundles and endpoint records, by which members reach each other that never met."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from node.engine.core import Core
from schemas.group_records import MemberRef
from schemas.ids import DeviceKey
from schemas.parcels import BundlesContent

BUNDLES_PER_PARCEL = 20


def introductions(
    core: Core, about: Sequence[MemberRef], readers: Iterable[DeviceKey]
) -> Iterator[BundlesContent]:
    """What is known of these devices and their owners, in as many parts as fit parcels.

    Not where we are, if that is hidden from one of the readers; another member may tell it.
    """
    people = core.people
    hidden = core.policies.hides and any(
        core.policies.of(people.owner(reader)).hides_address for reader in readers
    )
    for start in range(0, len(about), BUNDLES_PER_PARCEL):
        part = about[start : start + BUNDLES_PER_PARCEL]
        bundles = [people.bundle(key) for key in dict.fromkeys(ref.identity for ref in part)]
        shown = [ref.device for ref in part if not (hidden and ref.device == core.device.public)]
        endpoints = [people.endpoint(device) for device in shown]
        yield BundlesContent(
            tuple(bundle[0] for bundle in bundles if bundle is not None),
            tuple(endpoint[0] for endpoint in endpoints if endpoint is not None),
        )
