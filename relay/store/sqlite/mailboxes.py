"""Parcels in mailboxes: the SQL of enqueue, peek, acknowledge and expiry."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import apsw

from relay.refusals import (
    TryLater,
    mailbox_full,
    no_mailbox,
    relay_full,
    token_refused,
    token_share_used,
)
from relay.store.contract import KNOWN_AFTER_S, SWEEP_ROWS, MailboxName, MailboxState, Quotas
from relay.store.delivery_tokens import Bringer
from relay.store.sqlite import token_counts
from relay.store.sqlite.usage import Room, total
from schemas.errors import Refused
from schemas.ids import ParcelId
from schemas.node_service import Enqueued, EnqueueItem, Mailbox, StoredParcel

PARCEL_OVERHEAD = 64  # bytes of a StoredParcel on the wire besides `sealed`

_RESERVE = """
    UPDATE mailboxes SET next_seq = next_seq + 1, parcels = parcels + 1, bytes = bytes + ?1
    WHERE recipient = ?2 AND channel = ?3 AND parcels < ?4 AND bytes + ?1 <= ?5 AND (known OR ?6)
      AND (?7 OR NOT guarded)
    RETURNING id, next_seq - 1, known
"""
_INSERT = """
    INSERT INTO parcels (mailbox, seq, id, expires, checksum, sealed, token)
    VALUES (?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (mailbox, id) DO NOTHING
"""
_RELEASE = """
    UPDATE mailboxes SET parcels = parcels - ?, bytes = bytes - ? WHERE id = ? RETURNING known
"""
_MAKE = """
    INSERT INTO mailboxes (recipient, channel, next_seq)
    VALUES (?, ?, ifnull((SELECT value FROM meta WHERE name = 'first_seq'), 1)) RETURNING id
"""
RAISE_FIRST = """
    INSERT INTO meta (name, value) VALUES ('first_seq', ?1)
    ON CONFLICT (name) DO UPDATE SET value = max(value, ?1)
"""


def enqueue(
    connection: apsw.Connection,
    items: Sequence[EnqueueItem],
    by: Bringer,
    room: Room,
    now: int,
) -> list[Enqueued | Refused]:
    return [_enqueue_one(connection, item, by, room, now) for item in items]


def _enqueue_one(
    connection: apsw.Connection, item: EnqueueItem, by: Bringer, room: Room, now: int
) -> Enqueued | Refused:
    token = token_counts.find(connection, item)
    owner = item.recipient == by.device
    if not (owner or token is not None or by.admitted):
        return token_refused()
    if not (by.making or _find(connection, MailboxName(item.recipient, item.channel))):
        return no_mailbox()
    # In a mailbox with so little in it, no token's share is used up: nobody has to count.
    little = None if token is None else token_counts.share(room.quotas)
    place = _reserve(connection, item, room, entitled=owner or token is not None, below=little)
    if place is not None:
        kept = _keep(connection, item, place, token, room)
        if kept is not None:
            return kept
    return _enqueue_with_care(connection, item, token, room, now, owner=owner, by=by)


def _enqueue_with_care(
    connection: apsw.Connection,
    item: EnqueueItem,
    token: int | None,
    room: Room,
    now: int,
    *,
    owner: bool,
    by: Bringer,
) -> Enqueued | Refused:
    """Where there is no mailbox yet, or the parcel was brought before, or room may be wanting."""
    name = MailboxName(item.recipient, item.channel)
    mailbox = _find(connection, name)
    if mailbox is None:
        try:
            mailbox = _make(connection, name, room)
        except TryLater as refusal:
            return refusal
    may_without = owner or (by.admitted and not _is_guarded(connection, mailbox))
    if token is None and not may_without:
        return token_refused()
    held = _find_held(connection, mailbox, item, room, now)
    if held is not None:
        return held  # a repeated parcel needs no room
    size, quotas = len(item.sealed), room.quotas
    while True:
        counted = token
        if token is not None and token_counts.is_share_used(
            connection, mailbox, token, size, quotas
        ):
            counted = None
        place = None
        if counted is not None or may_without:
            place = _reserve(connection, item, room, entitled=True)
        if place is not None:
            kept = _keep(connection, item, place, counted, room)
            assert kept is not None, "no parcel of this id is there"
            return kept
        # Expired ones make room.
        if not _sweep(connection, "mailbox = ? AND expires <= ?", (mailbox, now), room):
            break
    if counted is None and not may_without:
        _mark_refused(connection, mailbox, now)
        return token_share_used()
    return _refuse(connection, mailbox, item, room, now)


def _keep(
    connection: apsw.Connection,
    item: EnqueueItem,
    place: tuple[int, int, bool],
    token: int | None,
    room: Room,
) -> Enqueued | None:
    """None when the mailbox has a parcel of this id; then the place is free again."""
    mailbox, sequence, known = place
    checksum = zlib.crc32(item.sealed)
    row = (mailbox, sequence, bytes(item.id), item.expires, checksum, item.sealed, token)
    connection.execute(_INSERT, row)
    if connection.changes():
        room.add(len(item.sealed), known=known)
        return Enqueued(sequence, item.expires)
    connection.execute(_RELEASE, (1, len(item.sealed), mailbox)).fetchall()
    return None


def _is_guarded(connection: apsw.Connection, mailbox: int) -> bool:
    return bool(connection.execute("SELECT guarded FROM mailboxes WHERE id = ?", (mailbox,)).get)


def _reserve(
    connection: apsw.Connection,
    item: EnqueueItem,
    room: Room,
    *,
    entitled: bool,
    below: tuple[int, int] | None = None,
) -> tuple[int, int, bool] | None:
    """(mailbox, sequence, known) of a place that is now taken; None when there is none to take.

    `below`: parcels and bytes that the mailbox may hold with it, where that is less than all.
    """
    size = len(item.sealed)
    if not room.holds(size):
        return None
    quotas = room.quotas
    most = (quotas.mailbox_parcels, quotas.mailbox_bytes) if below is None else below
    limits = (*most, room.holds_for_strangers(size))
    found: tuple[int, int, bool] | None = connection.execute(
        _RESERVE, (size, bytes(item.recipient), item.channel, *limits, entitled)
    ).fetchone()
    return found


def _make(connection: apsw.Connection, name: MailboxName, room: Room) -> int:
    room.add_mailbox()
    return int(connection.execute(_MAKE, (bytes(name.recipient), name.channel)).get)


def _find(connection: apsw.Connection, name: MailboxName) -> int | None:
    row = connection.execute(
        "SELECT id FROM mailboxes WHERE recipient = ? AND channel = ?",
        (bytes(name.recipient), name.channel),
    ).fetchone()
    return None if row is None else int(row[0])


def _find_held(
    connection: apsw.Connection, mailbox: int, item: EnqueueItem, room: Room, now: int
) -> Enqueued | None:
    """The first outcome of a repeated parcel; expired ones are deleted instead."""
    row = connection.execute(
        "SELECT seq, expires FROM parcels WHERE mailbox = ? AND id = ?", (mailbox, bytes(item.id))
    ).fetchone()
    if row is None:
        return None
    if row[1] <= now:
        _delete(connection, mailbox, [row[0]], room)
        _sweep(connection, "mailbox = ? AND expires <= ?", (mailbox, now), room)
        return None
    return Enqueued(*row)


def _refuse(
    connection: apsw.Connection, mailbox: int, item: EnqueueItem, room: Room, now: int
) -> Refused:
    parcels, held = connection.execute(
        "SELECT parcels, bytes FROM mailboxes WHERE id = ?", (mailbox,)
    ).get
    size = len(item.sealed)
    if parcels < room.quotas.mailbox_parcels and held + size <= room.quotas.mailbox_bytes:
        return relay_full()
    return _refuse_full(connection, mailbox, now)


def _refuse_full(connection: apsw.Connection, mailbox: int, now: int) -> Refused:
    _mark_refused(connection, mailbox, now)
    return mailbox_full()


def _mark_refused(connection: apsw.Connection, mailbox: int, now: int) -> None:
    """Its owner is told that mail was refused for want of room."""
    connection.execute(
        "UPDATE mailboxes SET refused_since = ifnull(refused_since, ?) WHERE id = ?", (now, mailbox)
    )


def open_mailbox(connection: apsw.Connection, name: MailboxName, room: Room, now: int) -> None:
    mailbox = _find(connection, name)
    if mailbox is None:
        mailbox = _make(connection, name, room)
    connection.execute(
        "UPDATE mailboxes SET opened = ? WHERE id = ? AND opened IS NULL", (now, mailbox)
    )


def forget_refusal(
    connection: apsw.Connection, name: MailboxName, since: int, quotas: Quotas
) -> None:
    connection.execute(
        "UPDATE mailboxes SET refused_since = NULL WHERE recipient = ? AND channel = ?"
        " AND refused_since = ? AND parcels < ? AND bytes < ?",
        (
            bytes(name.recipient),
            name.channel,
            since,
            quotas.mailbox_parcels,
            quotas.mailbox_bytes,
        ),
    )


class Look(NamedTuple):
    """What a look found: what may be shown, and the sequence numbers that are damaged."""

    mailbox: Mailbox
    damaged: list[int]


def peek(
    connection: apsw.Connection,
    name: MailboxName,
    *,
    after: int,
    limit: int,
    max_bytes: int,
    now: int,
) -> Look:
    row = connection.execute(
        "SELECT id, ifnull(refused_since, 0) FROM mailboxes WHERE recipient = ? AND channel = ?",
        (bytes(name.recipient), name.channel),
    ).fetchone()
    if row is None:
        return Look(Mailbox((), 0, 0), [])
    mailbox, refused_since = row
    lowest, highest = connection.execute(
        "SELECT ifnull(min(seq), 0), ifnull(max(seq), 0) FROM parcels"
        " WHERE mailbox = ? AND expires > ?",
        (mailbox, now),
    ).get
    parcels: list[StoredParcel] = []
    damaged: list[int] = []
    size = 0
    rows = connection.execute(
        "SELECT seq, id, expires, checksum, sealed FROM parcels"
        " WHERE mailbox = ? AND seq > ? AND expires > ? ORDER BY seq",
        (mailbox, after, now),
    )
    for sequence, parcel_id, expires, checksum, sealed in rows:
        if zlib.crc32(sealed) != checksum:
            damaged.append(sequence)
            continue
        size += len(sealed) + PARCEL_OVERHEAD
        if len(parcels) == limit or (parcels and size > max_bytes):
            break
        parcels.append(StoredParcel(sequence, ParcelId(parcel_id), expires, sealed))
    rows.close()
    return Look(Mailbox(tuple(parcels), lowest, highest, refused_since), damaged)


def set_aside(
    connection: apsw.Connection, name: MailboxName, sequences: Sequence[int], room: Room, now: int
) -> int:
    """Take damaged parcels out of the mailbox; how many there were."""
    mailbox = _find(connection, name)
    if mailbox is None:
        return 0
    for sequence in sequences:
        connection.execute(
            "INSERT INTO damaged (recipient, channel, seq, id, found)"
            " SELECT ?, ?, seq, id, ? FROM parcels WHERE mailbox = ? AND seq = ?",
            (bytes(name.recipient), name.channel, now, mailbox, sequence),
        )
    return _delete(connection, mailbox, sequences, room)


def acknowledge(
    connection: apsw.Connection, name: MailboxName, sequences: Iterable[int], room: Room
) -> int:
    mailbox = _find(connection, name)
    return 0 if mailbox is None else _delete(connection, mailbox, sequences, room)


def _delete(connection: apsw.Connection, mailbox: int, sequences: Iterable[int], room: Room) -> int:
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
        _release(connection, mailbox, count, size, room)
    return count


def _release(connection: apsw.Connection, mailbox: int, count: int, size: int, room: Room) -> None:
    known = connection.execute(_RELEASE, (count, size, mailbox)).get
    room.remove(count, size, known=bool(known))


def state(connection: apsw.Connection, name: MailboxName) -> MailboxState:
    row = connection.execute(
        "SELECT parcels, bytes, next_seq, refused_since FROM mailboxes"
        " WHERE recipient = ? AND channel = ?",
        (bytes(name.recipient), name.channel),
    ).fetchone()
    return MailboxState(0, 0, 1, None) if row is None else MailboxState(*row)


def sweep(connection: apsw.Connection, room: Room, now: int) -> tuple[int, int]:
    """(parcels that expired, mailboxes that nobody ever opened and that are empty)."""
    expired = _sweep(connection, "expires <= ?", (now,), room)
    return expired, _drop_unused(connection, room)


def _sweep(connection: apsw.Connection, which: str, bindings: tuple[int, ...], room: Room) -> int:
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
        _release(connection, mailbox, count, total, room)
    return sum(count for count, _ in gone.values())


def _drop_unused(connection: apsw.Connection, room: Room) -> int:
    """Made-up recipients must not stay for ever; numbers go on above theirs all the same."""
    numbers: list[int] = [
        row[0]
        for row in connection.execute(
            "DELETE FROM mailboxes WHERE id IN (SELECT id FROM mailboxes"
            "  WHERE known = 0 AND opened IS NULL AND parcels = 0 LIMIT ?) RETURNING next_seq",
            (SWEEP_ROWS,),
        )
    ]
    if numbers:
        connection.execute(RAISE_FIRST, (max(numbers),))
        room.usage.mailboxes -= len(numbers)
        room.usage.strangers -= len(numbers)
    return len(numbers)


def recognise(connection: apsw.Connection, room: Room, now: int) -> int:
    """Mailboxes whose owner came long enough ago are known from now on; how many became so."""
    sizes = connection.execute(
        "UPDATE mailboxes SET known = 1 WHERE id IN (SELECT id FROM mailboxes"
        "  WHERE known = 0 AND opened <= ? LIMIT ?) RETURNING bytes",
        (now - KNOWN_AFTER_S, SWEEP_ROWS),
    ).fetchall()
    room.usage.strangers -= len(sizes)
    room.usage.strangers_bytes -= total(sizes)
    return len(sizes)
