"""Parcels in mailboxes: the SQL of enqueue, peek, acknowledge and expiry."""

from __future__ import annotations

import logging
import zlib
from collections.abc import Iterable, Sequence

import apsw

from relay.refusals import TryLater
from relay.store.contract import SWEEP_ROWS, MailboxName, MailboxState, Quotas
from schemas.errors import Refused
from schemas.ids import ParcelId
from schemas.node_service import Enqueued, EnqueueItem, Mailbox, StoredParcel

log = logging.getLogger(__name__)

FULL_RETRY_MS = 60_000  # room comes when the recipient comes, or parcels expire
PARCEL_OVERHEAD = 64  # bytes of a StoredParcel on the wire besides `sealed`

_RESERVE = """
    UPDATE mailboxes SET next_seq = next_seq + 1, parcels = parcels + 1, bytes = bytes + ?1
    WHERE recipient = ?2 AND channel = ?3 AND parcels < ?4 AND bytes + ?1 <= ?5
    RETURNING id, next_seq - 1
"""
_INSERT = """
    INSERT INTO parcels (mailbox, seq, id, expires, checksum, sealed) VALUES (?, ?, ?, ?, ?, ?)
    ON CONFLICT (mailbox, id) DO NOTHING
"""
_RELEASE = "UPDATE mailboxes SET parcels = parcels - ?, bytes = bytes - ? WHERE id = ?"


def enqueue(
    connection: apsw.Connection, items: Sequence[EnqueueItem], quotas: Quotas, now: int
) -> list[Enqueued | Refused]:
    return [_enqueue_one(connection, item, quotas, now) for item in items]


def _enqueue_one(
    connection: apsw.Connection, item: EnqueueItem, quotas: Quotas, now: int
) -> Enqueued | Refused:
    place = _reserve(connection, item, quotas)
    if place is None:
        # No mailbox yet, or no room in it; a repeated parcel needs no room.
        mailbox = _find_or_make(connection, item)
        held = _find_held(connection, mailbox, item, now)
        if held is not None:
            return held
        place = _reserve(connection, item, quotas)
        if place is None:
            _sweep(connection, "mailbox = ? AND expires <= ?", (mailbox, now))
            place = _reserve(connection, item, quotas)
        if place is None:
            return _refuse_full(connection, mailbox, now)
    mailbox, sequence = place
    checksum = zlib.crc32(item.sealed)
    row = (mailbox, sequence, bytes(item.id), item.expires, checksum, item.sealed)
    connection.execute(_INSERT, row)
    if connection.changes():
        return Enqueued(sequence, item.expires)
    connection.execute(_RELEASE, (1, len(item.sealed), mailbox))
    held = _find_held(connection, mailbox, item, now)
    # An expired one of the same id was in the way and is gone now.
    return held if held is not None else _enqueue_one(connection, item, quotas, now)


def _reserve(
    connection: apsw.Connection, item: EnqueueItem, quotas: Quotas
) -> tuple[int, int] | None:
    """(mailbox, sequence) of a place that is now taken; None when there is none to take."""
    size = len(item.sealed)
    name = (bytes(item.recipient), item.channel)
    limits = (quotas.mailbox_parcels, quotas.mailbox_bytes)
    found: tuple[int, int] | None = connection.execute(_RESERVE, (size, *name, *limits)).fetchone()
    return found


def _find_or_make(connection: apsw.Connection, item: EnqueueItem) -> int:
    name = (bytes(item.recipient), item.channel)
    connection.execute("INSERT OR IGNORE INTO mailboxes (recipient, channel) VALUES (?, ?)", name)
    mailbox = _find(connection, MailboxName(item.recipient, item.channel))
    assert mailbox is not None
    return mailbox


def _find(connection: apsw.Connection, name: MailboxName) -> int | None:
    row = connection.execute(
        "SELECT id FROM mailboxes WHERE recipient = ? AND channel = ?",
        (bytes(name.recipient), name.channel),
    ).fetchone()
    return None if row is None else int(row[0])


def _find_held(
    connection: apsw.Connection, mailbox: int, item: EnqueueItem, now: int
) -> Enqueued | None:
    """The first outcome of a repeated parcel; an expired one is deleted instead."""
    row = connection.execute(
        "SELECT seq, expires FROM parcels WHERE mailbox = ? AND id = ?", (mailbox, bytes(item.id))
    ).fetchone()
    if row is None:
        return None
    if row[1] <= now:
        _delete(connection, mailbox, [row[0]])
        return None
    return Enqueued(*row)


def _refuse_full(connection: apsw.Connection, mailbox: int, now: int) -> Refused:
    connection.execute(
        "UPDATE mailboxes SET refused_since = ifnull(refused_since, ?) WHERE id = ?", (now, mailbox)
    )
    return TryLater(
        "mailbox-full",
        "the recipient's mailbox has no room",
        retry_after_ms=FULL_RETRY_MS,
        hint="it is sent again by itself; another relay of theirs may have room",
    )


def peek(
    connection: apsw.Connection,
    name: MailboxName,
    *,
    after: int,
    limit: int,
    max_bytes: int,
    now: int,
) -> Mailbox:
    mailbox = _find(connection, name)
    if mailbox is None:
        return Mailbox((), 0, 0)
    lowest, highest = connection.execute(
        "SELECT ifnull(min(seq), 0), ifnull(max(seq), 0) FROM parcels"
        " WHERE mailbox = ? AND expires > ?",
        (mailbox, now),
    ).get
    parcels: list[StoredParcel] = []
    size = 0
    rows = connection.execute(
        "SELECT seq, id, expires, checksum, sealed FROM parcels"
        " WHERE mailbox = ? AND seq > ? AND expires > ? ORDER BY seq",
        (mailbox, after, now),
    )
    for sequence, parcel_id, expires, checksum, sealed in rows:
        if zlib.crc32(sealed) != checksum:
            log.error("parcel %d of mailbox %d is damaged on disk; not shown", sequence, mailbox)
            continue
        size += len(sealed) + PARCEL_OVERHEAD
        if len(parcels) == limit or (parcels and size > max_bytes):
            break
        parcels.append(StoredParcel(sequence, ParcelId(parcel_id), expires, sealed))
    rows.close()
    return Mailbox(tuple(parcels), lowest, highest)


def acknowledge(connection: apsw.Connection, name: MailboxName, sequences: Iterable[int]) -> int:
    mailbox = _find(connection, name)
    return 0 if mailbox is None else _delete(connection, mailbox, sequences)


def _delete(connection: apsw.Connection, mailbox: int, sequences: Iterable[int]) -> int:
    count = size = 0
    for sequence in set(sequences):
        row = connection.execute(
            "DELETE FROM parcels WHERE mailbox = ? AND seq = ? RETURNING length(sealed)",
            (mailbox, sequence),
        ).fetchone()
        if row is not None:
            count += 1
            size += row[0]
    if count:
        connection.execute(_RELEASE, (count, size, mailbox))
    return count


def state(connection: apsw.Connection, name: MailboxName) -> MailboxState:
    row = connection.execute(
        "SELECT parcels, bytes, next_seq, refused_since FROM mailboxes"
        " WHERE recipient = ? AND channel = ?",
        (bytes(name.recipient), name.channel),
    ).fetchone()
    return MailboxState(0, 0, 1, None) if row is None else MailboxState(*row)


def sweep(connection: apsw.Connection, now: int) -> int:
    return _sweep(connection, "expires <= ?", (now,))


def _sweep(connection: apsw.Connection, which: str, bindings: tuple[int, ...]) -> int:
    """Delete up to SWEEP_ROWS parcels; `which` is one of the two conditions above."""
    gone: dict[int, tuple[int, int]] = {}
    rows = connection.execute(
        "DELETE FROM parcels WHERE rowid IN"  # noqa: S608 - our own text
        f" (SELECT rowid FROM parcels WHERE {which} LIMIT {SWEEP_ROWS})"
        " RETURNING mailbox, length(sealed)",
        bindings,
    )
    for mailbox, size in rows:
        count, total = gone.get(mailbox, (0, 0))
        gone[mailbox] = (count + 1, total + size)
    for mailbox, (count, total) in gone.items():
        connection.execute(_RELEASE, (count, total, mailbox))
    return sum(count for count, _ in gone.values())
