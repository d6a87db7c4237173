"""Rows of the outbox and the delivery ledger."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

from node.store.database import Database, Remembered
from schemas.ids import DeviceKey, GroupId, IdentityKey, MessageId, ParcelId

NO_PARCEL = ParcelId(bytes(16))
_ALL = 2**62

# The longest that a parcel of a stage ever waits for its next try, with some room
LONGEST_WAITS_S = {"queued": 900.0, "sent": 7 * 3600.0, "held": 31 * 86_400.0}


@dataclass(frozen=True, slots=True)
class OutboxRow:
    parcel: ParcelId
    payload: int
    recipient: DeviceKey
    next_try: float
    attempts: int
    stage: str  # queued, sent, held
    expires: float
    kind: str
    group: GroupId
    message: MessageId | None
    body: bytes  # ParcelBody under NO_PARCEL


@dataclass(frozen=True, slots=True)
class LedgerRow:
    message: MessageId
    device: DeviceKey
    identity: IdentityKey
    group: GroupId
    sequence: int
    state: str
    path: str | None
    relay: str | None
    held_until: float | None
    reason: str | None
    updated: float
    carrier: DeviceKey | None = None  # of the member who has it and hands it on


_COLUMNS = (
    "SELECT o.parcel_id, o.payload, o.recipient, o.next_try, o.attempts, o.stage, o.expires,"
    " p.kind, p.group_id, p.message, p.body FROM outbox o"
)
_OUTBOX = f"{_COLUMNS} JOIN payloads p ON p.id = o.payload"
# Without a word about the index, SQLite walks and sorts the recipient's whole backlog.
_QUEUED = f"{_COLUMNS} INDEXED BY outbox_queued JOIN payloads p ON p.id = o.payload"
_LEDGER = (
    "SELECT message, device, identity, group_id, sequence, state, path, relay, held_until, reason,"
    " updated, carrier FROM ledger"
)


class OutboxStore:
    def __init__(self, database: Database) -> None:
        self._db = database
        # (group, kind) of payloads that wait, but messages; there may be fewer by now
        self._kinds: Remembered[set[tuple[bytes, str]]] = Remembered(database, self._load_kinds)

    # --- payloads and parcels

    def add_payload(self, group: GroupId, kind: str, body: bytes, message: MessageId | None) -> int:
        self._db.run(
            "INSERT INTO payloads (group_id, kind, message, body) VALUES (?, ?, ?, ?)",
            group,
            kind,
            message,
            body,
        )
        if kind != "message":
            self._kinds.value.add((group, kind))
        return self._db.connection.last_insert_rowid()

    def _load_kinds(self) -> set[tuple[bytes, str]]:
        return set(self._db.rows("SELECT group_id, kind FROM payloads WHERE kind <> 'message'"))

    def add_parcels(
        self,
        payload: int,
        parcels: list[tuple[ParcelId, DeviceKey]],
        now: float,
        expires: float,
    ) -> None:
        self._db.many(
            "INSERT INTO outbox (parcel_id, payload, recipient, next_try, expires, group_id)"
            " SELECT ?1, id, ?3, ?4, ?5, group_id FROM payloads WHERE id = ?2",
            [(parcel, payload, recipient, now, expires) for parcel, recipient in parcels],
        )

    def get(self, parcel: ParcelId) -> OutboxRow | None:
        row = self._db.row(f"{_OUTBOX} WHERE o.parcel_id = ?", parcel)
        return None if row is None else _outbox(row)

    def has_due(self, recipient: DeviceKey, now: float) -> bool:
        return (
            self._db.row(
                "SELECT 1 FROM outbox WHERE recipient = ? AND next_try <= ? LIMIT 1",
                recipient,
                now,
            )
            is not None
        )

    def groups_waiting(self, recipient: DeviceKey) -> list[GroupId]:
        """Groups with parcels for this device that have not left; a seek for each."""
        found: list[GroupId] = []
        group = b""
        while True:
            group = self._db.value(
                "SELECT min(group_id) FROM outbox INDEXED BY outbox_queued"
                " WHERE recipient = ? AND stage = 'queued' AND group_id > ?",
                recipient,
                group,
            )
            if group is None:
                return found
            found.append(GroupId(group))

    def due_of_group(
        self, recipient: DeviceKey, group: GroupId, now: float, limit: int, out: Collection[bytes]
    ) -> list[OutboxRow]:
        """Not left yet, in the order they were made: a commit precedes what follows it.

        From the first that is not one of the parcels `out`; others of those may be among them.
        """
        due = "WHERE o.recipient = ? AND o.stage = 'queued' AND o.group_id = ? AND o.next_try <= ?"
        waiting = self._db.rows(
            f"SELECT o.parcel_id, o.payload FROM outbox o INDEXED BY outbox_queued {due}"  # noqa: S608
            " ORDER BY o.payload LIMIT ?",
            recipient,
            group,
            now,
            len(out) + 1,
        )
        first = next((payload for parcel, payload in waiting if parcel not in out), None)
        if first is None:
            return []
        rows = self._db.rows(
            f"{_QUEUED} {due} AND o.payload >= ? ORDER BY o.payload LIMIT ?",
            recipient,
            group,
            now,
            first,
            limit,
        )
        return [_outbox(row) for row in rows]

    def due_again(self, recipient: DeviceKey, now: float, limit: int) -> list[OutboxRow]:
        """Left before, without a receipt since; longest due first."""
        rows = self._db.rows(
            f"{_OUTBOX} WHERE o.recipient = ? AND o.next_try <= ? AND o.stage <> 'queued'"
            " ORDER BY o.next_try LIMIT ?",
            recipient,
            now,
            limit,
        )
        return [_outbox(row) for row in rows]

    def waiting(
        self,
        after: tuple[int, bytes],
        limit: int,
        recipients: Collection[DeviceKey] | None,
        group: GroupId | None,
    ) -> list[OutboxRow]:
        """Of these devices or all, of one group or all, in the order they were made, past the
        parcel (payload, id)."""
        among = "" if recipients is None else ", ".join("?" * len(recipients))
        rows = self._db.rows(
            f"{_OUTBOX} WHERE (o.payload, o.parcel_id) > (?, ?)"
            + ("" if recipients is None else f" AND o.recipient IN ({among})")
            + ("" if group is None else " AND o.group_id = ?")
            + " ORDER BY o.payload, o.parcel_id LIMIT ?",
            *after,
            *(recipients or ()),
            *(() if group is None else (group,)),
            limit,
        )
        return [_outbox(row) for row in rows]

    def due_recipients(self, now: float) -> frozenset[DeviceKey]:
        rows = self._db.rows("SELECT DISTINCT recipient FROM outbox WHERE next_try <= ?", now)
        return frozenset(DeviceKey(row[0]) for row in rows)

    def expired(self, now: float, limit: int = 500) -> list[OutboxRow]:
        rows = self._db.rows(f"{_OUTBOX} WHERE o.expires <= ? LIMIT ?", now, limit)
        return [_outbox(row) for row in rows]

    def next_try(self, now: float) -> float | None:
        """The earliest time after `now` at which something becomes due."""
        value = self._db.value("SELECT min(next_try) FROM outbox WHERE next_try > ?", now)
        return None if value is None else float(value)

    def reschedule(self, parcel: ParcelId, stage: str, attempts: int, next_try: float) -> None:
        self._db.run(
            "UPDATE outbox SET stage = ?, attempts = ?, next_try = ? WHERE parcel_id = ?",
            stage,
            attempts,
            next_try,
            parcel,
        )

    def waiting_recipients(self) -> list[DeviceKey]:
        """Everybody for whom something has not left yet."""
        rows = self._db.rows("SELECT DISTINCT recipient FROM outbox WHERE stage = 'queued'")
        return [DeviceKey(row[0]) for row in rows]

    def bring_forward(self, recipient: DeviceKey, stage: str, when: float) -> None:
        self._db.run(
            "UPDATE outbox SET next_try = ?3 WHERE recipient = ?1 AND stage = ?2 AND next_try > ?3",
            recipient,
            stage,
            when,
        )

    def pull_in(self, now: float) -> None:
        """Nothing waits longer than its stage ever does: a time set by a wrong clock is mended."""
        for stage, longest in LONGEST_WAITS_S.items():
            self._db.run(
                "UPDATE outbox SET next_try = ? WHERE stage = ? AND next_try > ?",
                now,
                stage,
                now + longest,
            )

    def bring_message_forward(self, message: MessageId, device: DeviceKey, when: float) -> None:
        self._db.run(
            "UPDATE outbox INDEXED BY outbox_by_payload SET next_try = ?3"
            " WHERE recipient = ?2 AND next_try > ?3"
            " AND payload IN (SELECT id FROM payloads WHERE message = ?1)",
            message,
            device,
            when,
        )

    def remove(self, parcel: ParcelId, payload: int) -> None:
        """Drops a parcel, and its payload with the last one."""
        self._db.run("DELETE FROM outbox WHERE parcel_id = ?", parcel)
        self._drop_payload(payload)

    def remove_messages(self, messages: list[MessageId], device: DeviceKey) -> list[ParcelId]:
        """Drops the parcels with these messages for one device, and payloads with the last one.

        Answers which they were.
        """
        removed = self._db.many(
            "DELETE FROM outbox INDEXED BY outbox_by_payload WHERE recipient = ?2"
            " AND payload IN (SELECT id FROM payloads WHERE message = ?1) RETURNING parcel_id",
            [(message, device) for message in messages],
        )
        self._db.many(
            "DELETE FROM payloads WHERE message = ?1"
            " AND NOT EXISTS (SELECT 1 FROM outbox WHERE payload = payloads.id)",
            [(message,) for message in messages],
        )
        return [ParcelId(row[0]) for row in removed]

    def waits(self, group: GroupId, kind: str) -> bool:
        """Parcels of this kind may wait."""
        return (group, kind) in self._kinds.value

    def has_kind(self, group: GroupId, kind: str) -> bool:
        """Whether a parcel of this kind waits."""
        return self.waits(group, kind) and (
            self._db.row(
                "SELECT 1 FROM payloads p CROSS JOIN outbox o ON o.payload = p.id"
                " WHERE p.group_id = ? AND p.kind = ? LIMIT 1",
                group,
                kind,
            )
            is not None
        )

    def remove_kind(self, group: GroupId, kind: str, recipient: DeviceKey) -> None:
        """Drops parcels of this kind that a device no longer needs; not messages.

        Found by kind first: a group has few of these, and may have thousands of messages waiting.
        """
        if (group, kind) not in self._kinds.value:
            return
        for parcel, payload in self._db.rows(
            "SELECT o.parcel_id, p.id FROM payloads p CROSS JOIN outbox o ON o.payload = p.id"
            " WHERE p.group_id = ? AND p.kind = ? AND p.kind <> 'message' AND o.recipient = ?",
            group,
            kind,
            recipient,
        ):
            self.remove(ParcelId(parcel), payload)
            self._kinds.forget()

    def _drop_payload(self, payload: int) -> None:
        self._db.run(
            "DELETE FROM payloads WHERE id = ?1"
            " AND NOT EXISTS (SELECT 1 FROM outbox WHERE payload = ?1)",
            payload,
        )

    def unsent(self) -> int:
        """Parcels that have not left this node at all; news of ourselves keeps nobody waiting."""
        return int(
            self._db.value(
                "SELECT count(*) FROM outbox o JOIN payloads p ON p.id = o.payload"
                " WHERE o.stage = 'queued' AND p.kind <> 'own-bundle'"
            )
        )

    # --- ledger

    def open_ledger(self, rows: list[LedgerRow]) -> None:
        self._db.many(
            "INSERT INTO ledger (message, device, identity, group_id, sequence, state, path,"
            " relay, held_until, reason, updated) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [
                (
                    row.message,
                    row.device,
                    row.identity,
                    row.group,
                    row.sequence,
                    row.state,
                    row.path,
                    row.relay,
                    row.held_until,
                    row.reason,
                    row.updated,
                )
                for row in rows
            ],
        )

    def ledger(self, message: MessageId) -> list[LedgerRow]:
        rows = self._db.rows(f"{_LEDGER} WHERE message = ? ORDER BY identity, device", message)
        return [_ledger(row) for row in rows]

    def ledger_entry(self, message: MessageId, device: DeviceKey) -> LedgerRow | None:
        row = self._db.row(f"{_LEDGER} WHERE message = ? AND device = ?", message, device)
        return None if row is None else _ledger(row)

    def open_entries(self, group: GroupId, device: DeviceKey, upto: int = _ALL) -> list[LedgerRow]:
        """What that device has not said that it has, in order, to sequence number `upto`."""
        rows = self._db.rows(
            f"{_LEDGER} INDEXED BY ledger_open WHERE group_id = ? AND device = ?"
            " AND sequence <= ? AND state IN ('queued', 'sent', 'held', 'carried')"
            " ORDER BY sequence",
            group,
            device,
            upto,
        )
        return [_ledger(row) for row in rows]

    def holder(self, message: MessageId) -> DeviceKey | None:
        """A recipient who said that it has this message."""
        device = self._db.value(
            "SELECT min(device) FROM ledger WHERE message = ? AND state IN ('delivered', 'read')",
            message,
        )
        return None if device is None else DeviceKey(device)

    def unsettled(
        self, group: GroupId, device: DeviceKey | None = None, *, given_up: bool = False
    ) -> list[LedgerRow]:
        """What members, or one, have not said that they have, in order; also what was given up
        because they were members no longer, as far as the branch went that was followed then, or
        only that."""
        gone = (
            f"{_LEDGER} INDEXED BY ledger_gone WHERE group_id = ?1 AND state = 'refused'"
            " AND reason IN ('no-longer-a-member', 'not-a-member') AND (?2 IS NULL OR device = ?2)"
        )
        waiting = (
            f"{_LEDGER} INDEXED BY ledger_open WHERE group_id = ?1"
            " AND state IN ('queued', 'sent', 'held', 'carried') AND (?2 IS NULL OR device = ?2)"
        )
        sql = gone if given_up else f"{waiting} UNION ALL {gone}"
        rows = self._db.rows(f"{sql} ORDER BY sequence, device", group, device)
        return [_ledger(row) for row in rows]

    def unread_entries(self, group: GroupId, device: DeviceKey, upto: int) -> list[LedgerRow]:
        """What that device has and had not shown, in order, to sequence number `upto`."""
        rows = self._db.rows(
            f"{_LEDGER} INDEXED BY ledger_delivered WHERE group_id = ? AND device = ?"
            " AND sequence <= ? AND state = 'delivered' ORDER BY sequence",
            group,
            device,
            upto,
        )
        return [_ledger(row) for row in rows]

    def write_ledger(self, rows: Iterable[LedgerRow]) -> None:
        self._db.many(
            "UPDATE ledger SET state = ?, path = ?, relay = ?, held_until = ?, reason = ?,"
            " updated = ?, carrier = ? WHERE message = ? AND device = ?",
            [
                (
                    row.state,
                    row.path,
                    row.relay,
                    row.held_until,
                    row.reason,
                    row.updated,
                    row.carrier,
                    row.message,
                    row.device,
                )
                for row in rows
            ],
        )


def _outbox(row: Any) -> OutboxRow:
    return OutboxRow(
        ParcelId(row[0]),
        row[1],
        DeviceKey(row[2]),
        row[3],
        row[4],
        row[5],
        row[6],
        row[7],
        GroupId(row[8]),
        None if row[9] is None else MessageId(row[9]),
        row[10],
    )


def _ledger(row: Any) -> LedgerRow:
    carrier = None if row[11] is None else DeviceKey(row[11])
    keys = MessageId(row[0]), DeviceKey(row[1]), IdentityKey(row[2]), GroupId(row[3])
    return LedgerRow(*keys, *(*row[4:11], carrier))
