"""Reading the rows that a backup keeps, and writing them into a new home."""

from __future__ import annotations

import json

from msgspec import convert

from node.backup import RESTORED, Backup, Delivery, Group, Message, Person
from node.store.database import Database
from schemas.ids import CommitHash

_MESSAGE = (
    "arrival, group_id, author, id, identity, sequence, lamport, parents, sent_ms, received,"
    " own, path, text"
)
_LEDGER = (
    "message, device, identity, group_id, sequence, state, path, relay, held_until, reason,"
    " updated, carrier"
)
_GROUP = (
    "id, incarnation, name, kind, suite, status, accepted, inviter, epoch, epoch_id, lamport,"
    " tips, joined"
)
_ENDS = ("delivered", "read", "expired", "refused")


def contacts(db: Database) -> list[Person]:
    rows = db.rows("SELECT card, verified, added FROM contacts ORDER BY added")
    return [Person(card, bool(verified), added) for card, verified, added in rows]


def bundles(db: Database, but: bytes) -> list[bytes]:
    """Of everybody but that identity, as signed."""
    return [row[0] for row in db.rows("SELECT signed FROM bundles WHERE identity <> ?", but)]


def groups(db: Database, but: bytes) -> list[Group]:
    """All, their members without that device."""
    found = []
    for row in db.rows(f"SELECT {_GROUP} FROM groups ORDER BY joined"):  # noqa: S608
        members = db.rows(
            "SELECT device, identity FROM members WHERE group_id = ? AND device <> ? ORDER BY leaf",
            row[0],
            but,
        )
        found.append(convert((*row[:6], bool(row[6]), *row[7:], members), Group))
    return found


def messages(db: Database) -> list[Message]:
    rows = db.rows(f"SELECT {_MESSAGE} FROM messages ORDER BY arrival")  # noqa: S608
    return [convert((*row[:10], bool(row[10]), *row[11:]), Message) for row in rows]


def cursors(db: Database) -> list[tuple[str, bytes, int]]:
    return db.rows("SELECT name, group_id, arrival FROM cursors")


def blocked(db: Database) -> list[tuple[bytes, float]]:
    return db.rows("SELECT identity, since FROM blocked")


def ledger(db: Database) -> list[Delivery]:
    rows = db.rows(f"SELECT {_LEDGER} FROM ledger")  # noqa: S608
    return convert(rows, list[Delivery])


def put_back(db: Database, backup: Backup, status: dict[str, str]) -> None:
    """Everything but the account and the contacts' bundles.

    `status` says what becomes of a group of each status. What was under way is not known to have
    arrived: the ledger says so.
    """
    db.many(
        "INSERT INTO blocked VALUES (?, ?)",
        [tuple(row) for row in backup.blocked],
    )
    for group in backup.groups:
        db.run(
            f"INSERT INTO groups ({_GROUP}, head, epoch_base, next_sequence)"  # noqa: S608
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 1, 1)",
            group.id,
            group.incarnation,
            group.name,
            group.kind,
            group.suite,
            status.get(group.status, group.status),
            group.accepted,
            group.inviter,
            group.epoch,
            group.epoch_id,
            group.lamport,
            group.tips,
            group.joined,
            bytes(CommitHash.LENGTH),
        )
        db.many(
            "INSERT INTO members VALUES (?, ?, ?, ?)",
            [(group.id, *member, leaf) for leaf, member in enumerate(group.members)],
        )
    db.many(
        f"INSERT INTO messages ({_MESSAGE}) VALUES ({_marks(_MESSAGE)})",  # noqa: S608
        [_values(row) for row in backup.messages],
    )
    db.many("INSERT INTO cursors VALUES (?, ?, ?)", [tuple(row) for row in backup.cursors])
    for row in backup.ledger:
        if row.state not in _ENDS:
            row.state, row.reason = "expired", RESTORED
    db.many(
        f"INSERT INTO ledger ({_LEDGER}) VALUES ({_marks(_LEDGER)})",  # noqa: S608
        [_values(row) for row in backup.ledger],
    )
    db.run("INSERT INTO meta VALUES ('relays', ?)", json.dumps(backup.relays))


def _marks(columns: str) -> str:
    return ", ".join("?" for _ in columns.split(","))


def _values(row: Message | Delivery) -> tuple[object, ...]:
    return tuple(getattr(row, name) for name in row.__struct_fields__)
