"""Rows of signed wishes to change a group, with the KeyPackages of whom they add."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from node.store.database import Database
from schemas.group_records import Intent
from schemas.ids import DeviceKey, GroupId, IntentId
from schemas.records import Signed

INTENT_S = 30 * 86_400.0  # how long one is kept
_LENGTH_BYTES = 4


@dataclass(frozen=True, slots=True)
class Wish:
    """An intent, as it was signed, with the KeyPackages it needs; `seen` in Unix seconds."""

    intent: Intent
    signed: Signed
    key_packages: tuple[bytes, ...] = ()
    seen: float = 0.0


class IntentStore:
    def __init__(self, database: Database) -> None:
        self._db = database

    def add(self, wish: Wish, now: float, *, done: bool = False) -> bool:
        """False when it is known already; KeyPackages that were missing are added to it."""
        intent = wish.intent
        packed = b"".join(
            len(package).to_bytes(_LENGTH_BYTES, "little") + package
            for package in wish.key_packages
        )
        added = self._db.run(
            "INSERT OR IGNORE INTO intents (group_id, id, author, signed, seen, done, key_packages)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            intent.group,
            intent.id,
            intent.author,
            wish.signed.encode(),
            now,
            done,
            packed,
        )
        if not added and packed:
            self._db.run(
                "UPDATE intents SET key_packages = ?3 WHERE group_id = ?1 AND id = ?2"
                " AND key_packages = x'' AND signed = ?4",
                intent.group,
                intent.id,
                packed,
                wish.signed.encode(),
            )
        return bool(added)

    def get(self, group: GroupId, intent: IntentId) -> Wish | None:
        row = self._db.row(
            "SELECT signed, key_packages, seen FROM intents WHERE group_id = ? AND id = ?",
            group,
            intent,
        )
        return None if row is None else _wish(*row)

    def open(self, group: GroupId) -> list[Wish]:
        """Those that no commit on our branch carried yet, oldest first."""
        rows = self._db.rows(
            "SELECT signed, key_packages, seen FROM intents WHERE group_id = ? AND done = 0"
            " ORDER BY seen, id",
            group,
        )
        return [_wish(*row) for row in rows]

    def open_of(self, group: GroupId, author: DeviceKey) -> int:
        """How many open intents a device has."""
        return int(
            self._db.value(
                "SELECT count(*) FROM intents WHERE group_id = ? AND author = ? AND done = 0",
                group,
                author,
            )
        )

    def groups(self) -> list[GroupId]:
        """Those with open intents."""
        rows = self._db.rows("SELECT DISTINCT group_id FROM intents WHERE done = 0")
        return [GroupId(row[0]) for row in rows]

    def set_done(self, group: GroupId, ids: Iterable[IntentId], done: bool = True) -> None:
        self._db.many(
            "UPDATE intents SET done = ? WHERE group_id = ? AND id = ?",
            [(done, group, intent) for intent in ids],
        )

    def sweep(self, now: float) -> None:
        self._db.run("DELETE FROM intents WHERE seen < ?", now - INTENT_S)


def _wish(signed: bytes, packed: bytes, seen: float) -> Wish:
    record = Signed.decode(signed)
    return Wish(Intent.decode(record.payload), record, tuple(_unpack(packed)), seen)


def _unpack(packed: bytes) -> Sequence[bytes]:
    found = []
    at = 0
    while at < len(packed):
        start = at + _LENGTH_BYTES
        at = start + int.from_bytes(packed[at:start], "little")
        found.append(packed[start:at])
    return found
