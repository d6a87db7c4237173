"""What a member who missed something is handed, as rows: ciphertexts, statements, proofs, marks."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from node.store.database import Database
from schemas.ids import DeviceKey, EpochId, GroupId
from schemas.records import Signed


@dataclass(frozen=True, slots=True)
class Kept:
    """A ciphertext that is kept: whose message, and how many bytes."""

    author: DeviceKey
    sequence: int
    epoch_id: EpochId
    size: int


class CatchUpStore:
    def __init__(self, database: Database) -> None:
        self._db = database

    # --- ciphertexts

    def authors(self, group: GroupId) -> list[DeviceKey]:
        """Whose ciphertexts are kept; a seek for each."""
        found: list[DeviceKey] = []
        author = b""
        while True:
            author = self._db.value(
                "SELECT min(author) FROM ciphertexts WHERE group_id = ? AND author > ?",
                group,
                author,
            )
            if author is None:
                return found
            found.append(DeviceKey(author))

    def kept(
        self, group: GroupId, author: DeviceKey, first: int, last: int, limit: int
    ) -> list[Kept]:
        """Of one author's numbers `first` to `last`, in order."""
        rows = self._db.rows(
            "SELECT sequence, epoch_id, length(mls) FROM ciphertexts WHERE group_id = ?"
            " AND author = ? AND sequence BETWEEN ? AND ? ORDER BY sequence LIMIT ?",
            group,
            author,
            first,
            last,
            limit,
        )
        return [Kept(author, row[0], EpochId(row[1]), row[2]) for row in rows]

    def first_of(
        self, group: GroupId, author: DeviceKey, before: int, epochs: Collection[EpochId | None]
    ) -> int:
        """How far below a number an author's messages are all of these epochs."""
        rows = self._db.connection.execute(
            "SELECT sequence, epoch_id FROM ciphertexts WHERE group_id = ? AND author = ?"
            " AND sequence < ? ORDER BY sequence DESC",
            (group, author, before),
        )
        for sequence, epoch_id in rows:
            if EpochId(epoch_id) not in epochs:
                break
            before = sequence
        return before

    def ciphertext(self, group: GroupId, kept: Kept) -> bytes:
        return bytes(
            self._db.value(
                "SELECT mls FROM ciphertexts WHERE group_id = ? AND author = ? AND sequence = ?",
                group,
                kept.author,
                kept.sequence,
            )
        )

    def trim_ciphertexts(self, of_a_group: int, of_all: int) -> int:
        """The oldest go until they fit into so many bytes; answers how many went."""
        count = 0
        for part, most in (("PARTITION BY group_id", of_a_group), ("", of_all)):
            count += self._db.run(
                "DELETE FROM ciphertexts WHERE rowid IN (SELECT rowid FROM (SELECT rowid,"  # noqa: S608
                f" sum(length(mls)) OVER ({part} ORDER BY until DESC, rowid DESC) AS total"
                " FROM ciphertexts) WHERE total > ?)",
                most,
            )
        return count

    # --- what fork choice goes by, as it was signed

    def header(self, group: GroupId, commit: bytes) -> Signed | None:
        data = self._db.value(
            "SELECT header FROM commits WHERE group_id = ? AND hash = ?", group, commit
        )
        return None if data is None else Signed.decode(data)

    def statements(self, group: GroupId) -> list[tuple[DeviceKey, Signed]]:
        rows = self._db.rows(
            "SELECT device, signed FROM statements WHERE group_id = ? ORDER BY device", group
        )
        return [(DeviceKey(device), Signed.decode(signed)) for device, signed in rows]

    def proofs(self, group: GroupId) -> list[tuple[DeviceKey, Signed, Signed]]:
        """(device, and two statements of its under one number)."""
        rows = self._db.rows(
            "SELECT device, first, second FROM equivocations WHERE group_id = ? ORDER BY device",
            group,
        )
        return [(DeviceKey(d), Signed.decode(one), Signed.decode(two)) for d, one, two in rows]

    # --- the outbox

    def waiting(self, group: GroupId, device: DeviceKey, kinds: Sequence[str]) -> bool:
        """Something of these kinds has not left for a device yet."""
        return (
            self._db.row(
                "SELECT 1 FROM outbox o INDEXED BY outbox_queued"
                " JOIN payloads p ON p.id = o.payload"
                " WHERE o.recipient = ? AND o.stage = 'queued' AND o.group_id = ?"
                " AND p.kind IN (SELECT value FROM json_each(?)) LIMIT 1",
                device,
                group,
                json.dumps(kinds),
            )
            is not None
        )
