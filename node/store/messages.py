"""Rows of the inbox: messages, watermarks, cursors, parcels seen, early arrivals."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from node.store.database import Database, Remembered
from schemas import limits
from schemas.ids import DeviceKey, EpochId, GroupId, IdentityKey, MessageId
from schemas.records import Signed

EARLY_UNKNOWN_S = 86_400.0  # how long an early parcel waits: of a group that we are not in
EARLY_S = 30 * 86_400.0  # of one that we are in
_UNKNOWN = (200, limits.FUTURE_BYTES)  # (parcels, bytes) of all groups that we are not in


@dataclass(frozen=True, slots=True)
class MessageRow:
    """A message, our own or received. `arrival` is 0 until it is stored."""

    group: GroupId
    author: DeviceKey
    id: MessageId
    identity: IdentityKey
    sequence: int
    lamport: int
    parents: tuple[MessageId, ...]
    sent_ms: int
    received: float
    own: bool
    path: str
    text: str
    arrival: int = 0


@dataclass(frozen=True, slots=True)
class Watermark:
    """What we have of one author: all of base..highest but `missing`; shown up to `read`."""

    base: int
    highest: int
    missing: tuple[int, ...]
    read: int = 0


_MESSAGE = (
    "m.group_id, m.author, m.id, m.identity, m.sequence, m.lamport, m.parents, m.sent_ms,"
    " m.received, m.own, m.path, m.text, m.arrival"
)


class MessageStore:
    def __init__(self, database: Database) -> None:
        self._db = database
        self._owed = Remembered(database, self._load_owed)
        self.kept_bytes = 0  # of ciphertexts, since somebody looked at how many there are

    # --- messages

    def add(self, row: MessageRow) -> int | None:
        """The arrival number; None when this author's message of that id is here already."""
        added = self._db.run(
            "INSERT OR IGNORE INTO messages (group_id, author, id, identity, sequence, lamport,"
            " parents, sent_ms, received, own, path, text) VALUES (?,?,?,?,?,?,?,?,?,?,?,?)",
            row.group,
            row.author,
            row.id,
            row.identity,
            row.sequence,
            row.lamport,
            b"".join(row.parents),
            row.sent_ms,
            row.received,
            row.own,
            row.path,
            row.text,
        )
        return self._db.connection.last_insert_rowid() if added else None

    def get(self, group: GroupId, author: DeviceKey, message: MessageId) -> MessageRow | None:
        row = self._db.row(
            f"SELECT {_MESSAGE} FROM messages m"  # noqa: S608
            " WHERE m.group_id = ? AND m.author = ? AND m.id = ?",
            group,
            author,
            message,
        )
        return None if row is None else _message(row)

    def latest_ids(self, group: GroupId, limit: int) -> set[MessageId]:
        """Of the messages that came last."""
        rows = self._db.rows(
            "SELECT id FROM messages WHERE group_id = ? ORDER BY arrival DESC LIMIT ?", group, limit
        )
        return {MessageId(row[0]) for row in rows}

    def unread(self, cursor: str, group: GroupId | None, limit: int) -> list[MessageRow]:
        """Others' messages in accepted groups that a cursor has not acknowledged, by arrival."""
        rows = self._db.rows(
            f"SELECT {_MESSAGE} FROM groups g"  # noqa: S608
            " LEFT JOIN cursors c ON c.name = ?1 AND c.group_id = g.id"
            " CROSS JOIN messages m ON m.group_id = g.id"
            " WHERE g.accepted = 1 AND m.own = 0 AND m.arrival > coalesce(c.arrival, 0)"
            " AND m.identity NOT IN (SELECT identity FROM blocked)"
            " AND (?2 IS NULL OR g.id = ?2) ORDER BY m.arrival LIMIT ?3",
            cursor,
            group,
            limit,
        )
        return [_message(row) for row in rows]

    def latest(self, group: GroupId, after: int, limit: int) -> list[MessageRow]:
        """The last messages of a group past an arrival number, our own too, by arrival."""
        rows = self._db.rows(
            f"SELECT {_MESSAGE} FROM messages m"  # noqa: S608
            " WHERE m.group_id = ? AND m.arrival > ? ORDER BY m.arrival DESC LIMIT ?",
            group,
            after,
            limit,
        )
        return [_message(row) for row in reversed(rows)]

    def stored_since(self, group: GroupId, since: float) -> tuple[int, int]:
        """(how many, bytes) of messages received since then, with the ciphertexts still kept."""
        row = self._db.row(
            "SELECT count(*), coalesce(sum("
            "  length(CAST(m.text AS BLOB)) + coalesce(length(c.mls), 0)), 0)"
            " FROM messages m LEFT JOIN ciphertexts c USING (group_id, author, sequence)"
            " WHERE m.group_id = ? AND m.received >= ?",
            group,
            since,
        )
        return row[0], row[1]

    def find(self, prefix: str) -> list[MessageRow]:
        """Own messages first, whose id begins with these hex digits; two at most."""
        rows = self._db.rows(
            f"SELECT {_MESSAGE} FROM messages m WHERE hex(m.id) LIKE ?"  # noqa: S608
            " ORDER BY m.own DESC LIMIT 2",
            prefix.upper() + "%",
        )
        return [_message(row) for row in rows]

    # --- cursors and watermarks

    def move_cursor(self, cursor: str, group: GroupId, arrival: int) -> None:
        self._db.run(
            "INSERT INTO cursors VALUES (?1, ?2, ?3) ON CONFLICT (name, group_id)"
            " DO UPDATE SET arrival = max(arrival, ?3)",
            cursor,
            group,
            arrival,
        )

    def mark_read(self, group: GroupId, arrival: int) -> list[DeviceKey]:
        """Moves `read` of each author up to what has been shown; answers whose moved."""
        rows = self._db.rows(
            "UPDATE watermarks SET read = seen.sequence FROM ("
            "  SELECT w.author, max(m.sequence) AS sequence FROM watermarks w"
            "  CROSS JOIN messages m INDEXED BY messages_by_sequence"
            "  ON m.group_id = w.group_id AND m.author = w.author AND m.sequence > w.read"
            "  WHERE w.group_id = ?1 AND m.arrival <= ?2 AND m.own = 0"
            "  AND m.identity NOT IN (SELECT identity FROM blocked) GROUP BY w.author"
            ") AS seen WHERE group_id = ?1 AND watermarks.author = seen.author"
            " AND read < seen.sequence RETURNING watermarks.author",
            group,
            arrival,
        )
        return [DeviceKey(row[0]) for row in rows]

    def watermark(self, group: GroupId, author: DeviceKey) -> Watermark | None:
        row = self._db.row(
            "SELECT base, highest, missing, read FROM watermarks WHERE group_id = ? AND author = ?",
            group,
            author,
        )
        if row is None:
            return None
        missing = () if row[2] == "[]" else tuple(json.loads(row[2]))
        return Watermark(row[0], row[1], missing, row[3])

    def put_watermark(self, group: GroupId, author: DeviceKey, mark: Watermark) -> None:
        self._db.run(
            "INSERT INTO watermarks (group_id, author, base, highest, missing, read)"
            " VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (group_id, author) DO UPDATE SET"
            " base = excluded.base, highest = excluded.highest, missing = excluded.missing,"
            " read = excluded.read",
            group,
            author,
            mark.base,
            mark.highest,
            json.dumps(mark.missing) if mark.missing else "[]",
            mark.read,
        )

    def set_owed(self, group: GroupId, author: DeviceKey, owed: bool) -> None:
        """Whether the author waits for a receipt."""
        if owed and (group, author) in self._owed.value:
            return
        changed = self._db.run(
            "UPDATE watermarks SET owed = ? WHERE group_id = ? AND author = ?", owed, group, author
        )
        if owed and changed:
            self._owed.value.add((group, author))
        else:
            self._owed.value.discard((group, author))

    def owed(self) -> list[tuple[GroupId, DeviceKey]]:
        return sorted(self._owed.value)

    def _load_owed(self) -> set[tuple[GroupId, DeviceKey]]:
        rows = self._db.rows("SELECT group_id, author FROM watermarks WHERE owed = 1")
        return {(GroupId(row[0]), DeviceKey(row[1])) for row in rows}

    def authors(self, group: GroupId) -> list[DeviceKey]:
        rows = self._db.rows("SELECT author FROM watermarks WHERE group_id = ?", group)
        return [DeviceKey(row[0]) for row in rows]

    def newer_summary(self, group: GroupId, device: DeviceKey, number: int, signed: Signed) -> bool:
        """Stores a peer's summary; False when one at least as new is here."""
        return bool(
            self._db.run(
                "INSERT INTO peer_summaries VALUES (?1, ?2, ?3, ?4) ON CONFLICT (group_id, device)"
                " DO UPDATE SET number = ?3, signed = ?4 WHERE number < ?3",
                group,
                device,
                number,
                signed.encode(),
            )
        )

    # --- parcels seen

    def seen(self, digest: bytes) -> tuple[GroupId, DeviceKey | None] | bool:
        """False, True, or whose message it was: (group, author)."""
        row = self._db.row("SELECT group_id, author FROM seen_parcels WHERE digest = ?", digest)
        if row is None:
            return False
        if row[0] is None:
            return True
        return GroupId(row[0]), None if row[1] is None else DeviceKey(row[1])

    def mark_seen(
        self, digest: bytes, until: float, group: GroupId | None, author: DeviceKey | None
    ) -> None:
        self._db.run(
            "INSERT OR REPLACE INTO seen_parcels VALUES (?, ?, ?, ?)", digest, until, group, author
        )

    # --- ciphertexts, kept for members who missed them

    def keep_ciphertext(
        self,
        group: GroupId,
        author: DeviceKey,
        sequence: int,
        epoch_id: EpochId,
        mls: bytes,
        until: float,
    ) -> None:
        self.kept_bytes += len(mls)
        self._db.run(
            "INSERT OR IGNORE INTO ciphertexts VALUES (?, ?, ?, ?, ?, ?)",
            group,
            author,
            sequence,
            epoch_id,
            mls,
            until,
        )

    def drop_ciphertext(self, group: GroupId, author: DeviceKey, sequence: int) -> None:
        self._db.run(
            "DELETE FROM ciphertexts WHERE group_id = ? AND author = ? AND sequence = ?",
            group,
            author,
            sequence,
        )

    def sealed_in(self, group: GroupId, author: DeviceKey) -> dict[int, EpochId]:
        """The epoch of each ciphertext that is kept, by sequence number."""
        rows = self._db.rows(
            "SELECT sequence, epoch_id FROM ciphertexts WHERE group_id = ? AND author = ?",
            group,
            author,
        )
        return {sequence: EpochId(epoch_id) for sequence, epoch_id in rows}

    # --- early arrivals

    def park(
        self,
        group: GroupId,
        known: bool,
        path: str,
        digest: bytes,
        body: bytes,
        now: float,
        *,
        via: DeviceKey | None,
        room: tuple[int, int],
    ) -> bool:
        """Keeps an early parcel's body, once; False when the buffer is full.

        `room`: (parcels, bytes) that may wait for a group that is `known`.
        """
        if self._db.row("SELECT 1 FROM future WHERE digest = ?", digest) is not None:
            return True
        where, (most, most_bytes) = ("group_id = ?", room) if known else ("known = 0", _UNKNOWN)
        count, size = self._db.row(
            f"SELECT count(*), coalesce(sum(length(body)), 0) FROM future WHERE {where}",  # noqa: S608
            *((group,) if known else ()),
        )
        if count >= most or size + len(body) > most_bytes:
            return False
        self._db.run(
            "INSERT INTO future (group_id, known, digest, path, body, arrival, via)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            group,
            known,
            digest,
            path,
            body,
            now,
            via,
        )
        return True

    def take_parked(self, group: GroupId) -> list[tuple[bytes, bytes, str, DeviceKey | None]]:
        """Takes out all (digest, body, path, via) of a group, oldest first."""
        rows = self._db.rows(
            "SELECT digest, body, path, via FROM future WHERE group_id = ? ORDER BY id", group
        )
        if rows:
            self._db.run("DELETE FROM future WHERE group_id = ?", group)
        return [(*row[:3], None if row[3] is None else DeviceKey(row[3])) for row in rows]

    # --- housekeeping

    def sweep(self, now: float) -> None:
        """Forgets what is past its time."""
        self._db.run("DELETE FROM seen_parcels WHERE until < ?", now)
        self._db.run("DELETE FROM ciphertexts WHERE until < ?", now)
        self._db.run("DELETE FROM future WHERE known = 0 AND arrival < ?", now - EARLY_UNKNOWN_S)
        self._db.run("DELETE FROM future WHERE arrival < ?", now - EARLY_S)


def _message(row: Any) -> MessageRow:
    parents = bytes(row[6])
    return MessageRow(
        GroupId(row[0]),
        DeviceKey(row[1]),
        MessageId(row[2]),
        IdentityKey(row[3]),
        row[4],
        row[5],
        tuple(MessageId(parents[i : i + 16]) for i in range(0, len(parents), 16)),
        row[7],
        row[8],
        bool(row[9]),
        row[10],
        row[11],
        row[12],
    )
