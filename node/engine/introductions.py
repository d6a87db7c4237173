"""Bundles and endpoint records, by which members reach each other that never met."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from node.engine.core import Core
from schemas.group_records import MemberRef
from schemas.parcels import BundlesContent

BUNDLES_PER_PARCEL = 20


def introductions(core: Core, about: Sequence[MemberRef]) -> Iterator[BundlesContent]:
    """What is known of these devices and their owners, in as many parts as fit parcels."""
    people = core.people
    for start in range(0, len(about), BUNDLES_PER_PARCEL):
        part = about[start : start + BUNDLES_PER_PARCEL]
        bundles = [people.bundle(key) for key in dict.fromkeys(ref.identity for ref in part)]
        endpoints = [people.endpoint(ref.device) for ref in part]
        yield BundlesContent(
            tuple(bundle[0] for bundle in bundles if bundle is not None),
            tuple(endpoint[0] for endpoint in endpoints if endpoint is not None),
        )
