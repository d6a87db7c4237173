"""The audit log: what happened to accounts and keys, each row bound to all before it by a hash.

Whoever changes, removes or moves a row breaks the chain; whoever cuts off its end, or writes a
chain of their own, does not have the hash that was shown before (a checkpoint kept elsewhere, see
relay/audit.py). No row says anything of mail, and none is written for what a stranger can cause at
will (a failed login, say): such things are counted, in /metrics.

    hash = SHA-256(previous hash 32 | number 8 | time 8 | event length 2 | event | commitment 32)
    commitment = SHA-256(salt 16 | subject in UTF-8)

All numbers are big-endian; before the first row the hash is START. The salt and the subject can be
erased, when an account is deleted: the rest still verifies, and does not say whose it was.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

START: Final = hashlib.sha256(b"quicnprotochat relay audit v1").digest()
SALT_LENGTH: Final = 16
MAX_EVENT_BYTES: Final = 64
MAX_SUBJECT_BYTES: Final = 256
TRIMMED: Final = "audit-trimmed"  # its subject is the place that the log begins after: `str(Place)`


@dataclass(frozen=True, slots=True)
class Place:
    """A point of the log: the number of a row (0: before the first) and its hash (32 B)."""

    number: int
    hash: bytes

    def __str__(self) -> str:
        return f"{self.number} {self.hash.hex()}"


@dataclass(frozen=True, slots=True)
class Row:
    """One event; `time` in Unix seconds. `salt` and `subject` are None when they were erased."""

    number: int
    time: int
    event: str
    subject: str | None
    salt: bytes | None
    commitment: bytes
    hash: bytes


@dataclass(frozen=True, slots=True)
class Verdict:
    """What `verify` found: `fault` says what is wrong (empty: nothing), `at` the row where.

    `head` is the last place that holds.
    """

    rows: int
    erased: int
    head: Place
    fault: str = ""
    at: int | None = None


class AuditReader(Protocol):
    """The log as one moment had it."""

    async def begin(self) -> Place:
        """The place that the first row follows."""
        ...

    async def rows(self, *, after: int = 0, limit: int) -> Sequence[Row]:
        """Up to `limit` rows with numbers above `after`, in order."""
        ...


class AuditLog(AuditReader, Protocol):
    """The part `store.audit`; tests/relay/store/test_audit.py holds every store to it.

    A part of a store that changes accounts writes its row in the same transaction, by `append` of
    the store's own module (relay/store/sqlite/audit.py); this is for all others.
    """

    async def append(self, event: str, subject: str, *, now: int) -> Place:
        """Add a row and return its place; on disk when this returns.

        `event` is a word of the program (`account-made`), `subject` whom it is about, with its kind
        (`account:ada`, `device:…` in hex: an account named like a device must not erase the
        device's rows); at most MAX_EVENT_BYTES and MAX_SUBJECT_BYTES long.
        """
        ...

    async def erase(self, subject: str) -> int:
        """Forget whom the rows of this subject were about, and those of parts of it, which begin
        with it and a space; how many there were."""
        ...

    async def trim(self, before: int, *, now: int) -> int:
        """Delete rows older than `before`, oldest first; how many there were.

        When there are some, a row TRIMMED says where the log begins from now on.
        """
        ...


def commit_to(salt: bytes, subject: str) -> bytes:
    return hashlib.sha256(salt + subject.encode()).digest()


def next_hash(previous: bytes, number: int, time: int, event: str, commitment: bytes) -> bytes:
    word = event.encode()
    return hashlib.sha256(
        previous + number.to_bytes(8) + time.to_bytes(8) + len(word).to_bytes(2) + word + commitment
    ).digest()


def _subject_holds(row: Row) -> bool:
    if row.salt is None or row.subject is None:
        return row.salt is None and row.subject is None  # erased
    return commit_to(row.salt, row.subject) == row.commitment


def next_row(head: Place, event: str, subject: str, salt: bytes, now: int) -> Row:
    """The row that follows `head`. `salt` is SALT_LENGTH random bytes."""
    if not 0 < len(event.encode()) <= MAX_EVENT_BYTES or len(salt) != SALT_LENGTH:
        raise ValueError("an event of the audit log has a short name and 16 bytes of salt")
    if len(subject.encode()) > MAX_SUBJECT_BYTES:
        raise ValueError(f"a subject of the audit log has {MAX_SUBJECT_BYTES} bytes at most")
    number, commitment = head.number + 1, commit_to(salt, subject)
    digest = next_hash(head.hash, number, now, event, commitment)
    return Row(number, now, event, subject, salt, commitment, digest)


class Verifier:
    """Reads the rows in order, in portions; `verdict` at the end.

    `begin` is where the log says that it begins, `places` are places that must be in it (from
    checkpoints kept elsewhere).
    """

    def __init__(self, begin: Place, places: Iterable[Place] = ()) -> None:
        self._begin = begin
        self._head = begin
        self._rows = 0
        self._erased = 0
        self._trimmed_to = Place(0, START)  # where the rows say that the log begins
        self._wanted = {place.number: place.hash for place in places}
        self._fault: tuple[str, int | None] | None = None
        self._compare(begin)

    def read(self, rows: Iterable[Row]) -> None:
        for row in rows:
            if self._fault is None:
                self._read(row)

    def _read(self, row: Row) -> None:
        head = self._head
        if row.number != head.number + 1:
            self._fault = f"row {head.number + 1} is missing", row.number
        elif not _subject_holds(row):
            self._fault = f"the subject of row {row.number} was changed", row.number
        elif row.hash != next_hash(head.hash, row.number, row.time, row.event, row.commitment):
            self._fault = f"row {row.number} was changed, or is not where it was", row.number
        else:
            self._head = Place(row.number, row.hash)
            self._rows += 1
            self._erased += row.salt is None
            if row.event == TRIMMED:
                self._note_trim(row)
            self._compare(self._head)

    def _note_trim(self, row: Row) -> None:
        number, _, digest = (row.subject or "").partition(" ")
        try:
            self._trimmed_to = Place(int(number), bytes.fromhex(digest))
        except ValueError:
            self._fault = f"row {row.number} does not say where the log begins", row.number

    def _compare(self, place: Place) -> None:
        wanted = self._wanted.pop(place.number, place.hash)
        if wanted != place.hash and self._fault is None:
            self._fault = f"row {place.number} is not the one of the checkpoint", place.number

    def verdict(self) -> Verdict:
        fault = self._fault
        if fault is None and self._begin.number and self._trimmed_to != self._begin:
            fault = "the log's beginning was removed, and no row says so", self._begin.number
        if fault is None and self._wanted:
            first, last = min(self._wanted), max(self._wanted)
            if last > self._head.number:
                fault = f"the log was cut off: a checkpoint has row {last}", last
            elif first < self._begin.number:
                fault = f"row {first} of the checkpoint is older than what is kept", first
        told, at = fault or ("", None)
        return Verdict(self._rows, self._erased, self._head, told, at)
