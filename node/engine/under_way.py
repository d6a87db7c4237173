"""What delivery has: parcels that were handed out to it and whose outcome is open."""

from __future__ import annotations

import dataclasses
from collections.abc import Set

from node.store.outbox import OutboxRow
from schemas.ids import DeviceKey, MessageId, ParcelId


@dataclasses.dataclass(frozen=True, slots=True)
class Taken:
    """A parcel that delivery has."""

    since: float
    message: MessageId | None
    recipient: DeviceKey
    expires: float
    delivered: bool = False  # a receipt settled it meanwhile


class UnderWay:
    """In memory only: a new process hands everything out anew.

    Delivery hears nothing of a batch that could not be committed, so that one is undone exactly:
    what it took was never given out, and what it put back is still out.
    """

    def __init__(self) -> None:
        self._taken: dict[ParcelId, Taken] = {}
        self._by_recipient: dict[DeviceKey, set[ParcelId]] = {}
        self._before: dict[ParcelId, Taken | None] = {}  # of what this batch changed

    def begin_batch(self) -> None:
        self._before.clear()

    def undo_batch(self) -> None:
        before, self._before = self._before, {}
        for parcel, taken in before.items():
            self._set(parcel, taken)
        self._before.clear()

    def __contains__(self, parcel: ParcelId) -> bool:
        return parcel in self._taken

    def get(self, parcel: ParcelId) -> Taken | None:
        return self._taken.get(parcel)

    def to(self, recipient: DeviceKey) -> Set[ParcelId]:
        return self._by_recipient.get(recipient, frozenset())

    def take(self, row: OutboxRow, now: float) -> None:
        self._set(row.parcel, Taken(now, row.message, row.recipient, row.expires))

    def put_back(self, parcel: ParcelId) -> Taken | None:
        """As it was, if it was under way."""
        taken = self._taken.get(parcel)
        if taken is not None:
            self._set(parcel, None)
        return taken

    def note_delivered(self, parcel: ParcelId) -> None:
        taken = self._taken.get(parcel)
        if taken is not None:
            self._set(parcel, dataclasses.replace(taken, delivered=True))

    def since(self, latest: float) -> list[ParcelId]:
        """Those that were taken at that time or before."""
        return [parcel for parcel, taken in self._taken.items() if taken.since <= latest]

    def restart_times(self, now: float) -> None:
        """As if all had been taken now."""
        for parcel, taken in self._taken.items():
            self._taken[parcel] = dataclasses.replace(taken, since=now)

    def _set(self, parcel: ParcelId, taken: Taken | None) -> None:
        old = self._taken.get(parcel)
        self._before.setdefault(parcel, old)
        if old is not None and taken is None:
            del self._taken[parcel]
            parcels = self._by_recipient[old.recipient]
            parcels.discard(parcel)
            if not parcels:
                del self._by_recipient[old.recipient]
        elif taken is not None:
            self._taken[parcel] = taken
            self._by_recipient.setdefault(taken.recipient, set()).add(parcel)
