"""What senders were promised and what readers got, parcel by parcel, and whether both agree.

A parcel says in clear which it is: sender, serial number, and when it was due; its id follows from
that, so that nobody has to remember ids. Its reader follows from it, too.
"""

from __future__ import annotations

import hashlib
import struct
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from schemas.ids import ParcelId
from schemas.node_service import StoredParcel

PARCEL_BYTES: Final = 2_048  # a short message in its envelope, padded
_HEAD: Final = struct.Struct(">IQd")
_FILLING: Final = bytes(range(256)) * 8

# Of a parcel, at its sender. One that it called for more than once may be there twice, one after
# the other: a relay knows a parcel's id while it holds it.
UNDER_WAY, ACKNOWLEDGED, ACKNOWLEDGED_LATER = range(3)
# Of a parcel, at its reader.
SHOWN, DONE = 1, 2


class Parcel(NamedTuple):
    sender: int
    serial: int
    due: float  # monotonic; of one machine, the same in all its processes

    @property
    def id(self) -> ParcelId:
        head = _HEAD.pack(self.sender, self.serial, self.due)
        return ParcelId(hashlib.blake2b(head, digest_size=16).digest())

    def reader(self, readers: int) -> int:
        """The number of the one whom it is for."""
        return (self.sender * 7 + self.serial) % readers

    @property
    def sealed(self) -> bytes:
        head = _HEAD.pack(*self)
        return head + _FILLING[len(head) : PARCEL_BYTES]

    @classmethod
    def read(cls, stored: StoredParcel) -> Parcel | None:
        """None: not as it was sent."""
        if len(stored.sealed) != PARCEL_BYTES:
            return None
        parcel = cls(*_HEAD.unpack_from(stored.sealed))
        return parcel if (stored.id, stored.sealed) == (parcel.id, parcel.sealed) else None


class Marks:
    """A byte for each parcel: far less than its id. The serial numbers of a sender begin at 0."""

    def __init__(self) -> None:
        self._of: defaultdict[int, bytearray] = defaultdict(bytearray)

    def __getitem__(self, parcel: Parcel) -> int:
        row = self._of[parcel.sender]
        return row[parcel.serial] if parcel.serial < len(row) else 0

    def __setitem__(self, parcel: Parcel, mark: int) -> None:
        row = self._of[parcel.sender]
        row.extend(bytes(max(0, parcel.serial + 1 - len(row))))
        row[parcel.serial] = mark

    def to_json(self) -> dict[str, str]:
        return {str(sender): row.hex() for sender, row in self._of.items()}


class Reading:
    """What one process's readers got. An application shows a parcel when it comes first."""

    def __init__(self, readers: int) -> None:
        self._readers = readers
        self._marks = Marks()
        self.before_done = 0  # came again while the relay had not confirmed that it is done with
        self.after_done: list[tuple[int, int]] = []  # (sender, serial) that came again after that
        self.strange = 0  # not as sent, or in another's mailbox

    def arrived(self, reader: int, stored: StoredParcel) -> Parcel | None:
        """The parcel, if it is to be shown now."""
        parcel = Parcel.read(stored)
        if parcel is None or parcel.reader(self._readers) != reader:
            self.strange += 1
            return None
        mark = self._marks[parcel]
        if mark == DONE:
            self.after_done.append((parcel.sender, parcel.serial))
        elif mark == SHOWN:
            self.before_done += 1
        else:
            self._marks[parcel] = SHOWN
            return parcel
        return None

    def done(self, stored: StoredParcel) -> None:
        """The relay has confirmed that it holds the parcel no more."""
        parcel = Parcel.read(stored)
        if parcel is not None:
            self._marks[parcel] = DONE

    def to_json(self) -> dict[str, object]:
        return {
            "marks": self._marks.to_json(),
            "before_done": self.before_done,
            "after_done": self.after_done,
            "strange": self.strange,
        }


@dataclass(frozen=True, slots=True)
class Account:
    """What became of all parcels."""

    acknowledged: int
    missing: int  # acknowledged to the sender, and never shown
    repeated: int  # came again after the relay had confirmed that it is done with
    strange: int
    unconfirmed: int  # shown, and gone from the relay; that word was lost with the process
    before_done: int  # came again, as the relay did not know yet that they had been read
    called_again: int  # came again after it, because their sender had not heard the answer

    @property
    def complaints(self) -> list[str]:
        told = {
            "acknowledged and never delivered": self.missing,
            "delivered again after their end was confirmed": self.repeated,
            "not as they were sent": self.strange,
        }
        return [f"{count} parcels {what}" for what, count in told.items() if count]


def settle(
    sent: Mapping[str, str],
    marks: Mapping[str, str],
    *,
    after_done: Sequence[Sequence[int]],
    before_done: int,
    strange: int,
) -> Account:
    """Compare `sent`, the senders' Marks, with a Reading. Both as JSON."""
    acknowledged = missing = unconfirmed = 0
    states = {sender: bytes.fromhex(row) for sender, row in sent.items()}
    for sender, row in states.items():
        got = bytes.fromhex(marks.get(sender, "")).ljust(len(row), b"\0")
        for promised, mark in zip(row, got, strict=False):
            acknowledged += promised != UNDER_WAY
            missing += promised != UNDER_WAY and not mark
            unconfirmed += mark == SHOWN
    excused = sum(
        states[str(sender)][serial] == ACKNOWLEDGED_LATER for sender, serial in after_done
    )
    return Account(
        acknowledged,
        missing,
        len(after_done) - excused,
        strange,
        unconfirmed,
        before_done,
        excused,
    )
