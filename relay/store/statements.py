"""The store's part on relay statements: where people read their mail now."""

from __future__ import annotations

from typing import Protocol

from schemas.ids import DeviceKey, IdentityKey
from schemas.records import Signed


class RelayStatements(Protocol):
    """One per identity, kept as bundles are; whose signature holds is the caller's
    concern. tests/relay/store/test_statements.py holds every store to it."""

    async def put(
        self, identity: IdentityKey, number: int, statement: Signed, *, by: DeviceKey, now: int
    ) -> None:
        """Newest number wins; on disk when this returns. The same bytes again are fine. The device
        `by` brings it.

        Raises Refused `stale`, `too-many-people`; TryLater `relay-full`.
        """
        ...

    async def get(self, identity: IdentityKey) -> Signed | None: ...
