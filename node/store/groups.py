"""Rows about groups: where we stand, MLS state, commits, snapshots, members and intents."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from node.store.database import Database, Remembered
from schemas import limits
from schemas.group_records import CommitHeader, Statement
from schemas.ids import CommitHash, DeviceKey, EpochId, GroupId, IdentityKey
from schemas.records import Signed

KEPT_EPOCHS = 16  # MLS secrets of past epochs, for late messages


@dataclass(slots=True)
class GroupRow:
    """Where this device stands in a group. Changed in place, then `GroupStore.save`d."""

    id: GroupId
    incarnation: int
    name: str
    kind: str
    suite: int
    status: str
    accepted: bool
    inviter: IdentityKey | None
    head: CommitHash
    epoch: int
    epoch_id: EpochId
    epoch_base: int
    next_sequence: int
    lamport: int
    tips: bytes
    summary_number: int
    joined: float


_COLUMNS = ", ".join(field.name for field in fields(GroupRow))
_MARKS = ", ".join("?" for _ in fields(GroupRow))

_OF_A_GROUP = (
    "members", "group_state", "group_tree", "epochs", "snapshots", "generations", "commits",
    "statements", "equivocations", "welcomes", "intents", "key_updates",
    "messages", "ciphertexts", "watermarks", "peer_summaries", "future", "cursors",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class MemberRow:
    device: DeviceKey
    identity: IdentityKey
    leaf: int


class GroupStore:
    def __init__(self, database: Database) -> None:
        self._db = database
        self._members: Remembered[dict[GroupId, tuple[MemberRow, ...]]] = Remembered(database, dict)
        self._statements: Remembered[dict[tuple[GroupId, DeviceKey], Signed]] = Remembered(
            database, dict
        )

    # --- groups

    def get(self, group: GroupId) -> GroupRow | None:
        row = self._db.row(f"SELECT {_COLUMNS} FROM groups WHERE id = ?", group)  # noqa: S608
        return None if row is None else _group(row)

    def all(self) -> list[GroupRow]:
        rows = self._db.rows(f"SELECT {_COLUMNS} FROM groups ORDER BY joined")  # noqa: S608
        return [_group(row) for row in rows]

    def save(self, row: GroupRow) -> None:
        self._db.run(
            f"INSERT OR REPLACE INTO groups ({_COLUMNS}) VALUES ({_MARKS})",  # noqa: S608
            *(getattr(row, field.name) for field in fields(GroupRow)),
        )
        self._db.bringers_changed += 1

    def save_message(self, row: GroupRow) -> None:
        """What a message changes: the next sequence number, Lamport time and tips."""
        self._db.run(
            "UPDATE groups SET next_sequence = ?, lamport = ?, tips = ? WHERE id = ?",
            row.next_sequence,
            row.lamport,
            row.tips,
            row.id,
        )

    def forget(self, group: GroupId) -> None:
        """Everything about a group goes, what was written in it too."""
        self._members.forget()
        self._statements.forget()
        self._db.bringers_changed += 1
        self._db.run("DELETE FROM groups WHERE id = ?", group)
        for table in _OF_A_GROUP:
            self._db.run(f"DELETE FROM {table} WHERE group_id = ?", group)  # noqa: S608

    def members(self, group: GroupId) -> tuple[MemberRow, ...]:
        """By leaf."""
        found = self._members.value.get(group)
        if found is None:
            rows = self._db.rows(
                "SELECT device, identity, leaf FROM members WHERE group_id = ? ORDER BY leaf", group
            )
            found = tuple(MemberRow(DeviceKey(d), IdentityKey(i), leaf) for d, i, leaf in rows)
            self._members.value[group] = found
        return found

    def set_members(self, group: GroupId, members: list[MemberRow]) -> None:
        self._members.value.pop(group, None)
        self._db.run("DELETE FROM members WHERE group_id = ?", group)
        self._db.many(
            "INSERT INTO members VALUES (?, ?, ?, ?)",
            [(group, member.device, member.identity, member.leaf) for member in members],
        )
        self._db.bringers_changed += 1

    # --- MLS state

    def mls_state(self, group: GroupId) -> tuple[bytes, bytes, list[tuple[int, bytes]]] | None:
        """(state, tree, past epochs as (number, blob)) of the current incarnation, if there is."""
        state = self._db.row(
            "SELECT s.blob, t.blob, s.incarnation FROM group_state s"
            " JOIN group_tree t USING (group_id) WHERE group_id = ?",
            group,
        )
        if state is None:
            return None
        epochs = self._db.rows(
            "SELECT epoch, blob FROM epochs WHERE group_id = ? AND incarnation = ? ORDER BY epoch",
            group,
            state[2],
        )
        return state[0], state[1], epochs

    def write_mls(
        self, group: GroupId, incarnation: int, kind: str, epoch: int | None, blob: bytes
    ) -> None:
        """One entry of the binding's write log."""
        match kind:
            case "state":
                self._db.run(
                    "INSERT OR REPLACE INTO group_state VALUES (?, ?, ?)", group, incarnation, blob
                )
            case "tree":
                self._db.run(
                    "INSERT OR REPLACE INTO group_tree VALUES (?, ?, ?)", group, incarnation, blob
                )
            case "epoch-insert" | "epoch-update":
                self._db.run(
                    "INSERT OR REPLACE INTO epochs VALUES (?, ?, ?, ?)",
                    group,
                    incarnation,
                    epoch,
                    blob,
                )
            case _:
                raise ValueError(f"unknown write {kind!r}")

    def snapshot(self, row: GroupRow, now: float) -> None:
        """Keeps the state as it is on disk, before the epoch is left; trims the oldest."""
        self._db.run(
            "INSERT OR REPLACE INTO snapshots"
            " SELECT ?, ?, ?, ?, ?, s.blob, t.blob, length(s.blob) + length(t.blob), ?"
            " FROM group_state s JOIN group_tree t USING (group_id) WHERE s.group_id = ?",
            row.id,
            row.epoch_id,
            row.incarnation,
            row.epoch,
            row.head,
            now,
            row.id,
        )
        self._db.run(
            "DELETE FROM snapshots WHERE group_id = ?1 AND (taken < ?2 OR epoch_id NOT IN ("
            " SELECT epoch_id FROM (SELECT epoch_id, row_number() OVER newest AS place,"
            "   sum(bytes) OVER newest AS total FROM snapshots WHERE group_id = ?1"
            "   WINDOW newest AS (ORDER BY taken DESC, epoch DESC))"
            " WHERE place <= ?3 AND total <= ?4))",
            row.id,
            now - limits.SNAPSHOT_AGE_S,
            limits.SNAPSHOT_EPOCHS,
            limits.SNAPSHOT_BYTES,
        )
        self._db.run(
            "DELETE FROM epochs WHERE group_id = ? AND incarnation = ? AND epoch < ?",
            row.id,
            row.incarnation,
            row.epoch - KEPT_EPOCHS,
        )

    def snapshot_state(self, group: GroupId, epoch_id: EpochId) -> tuple[bytes, bytes] | None:
        """(state, tree) as they were when that epoch was left."""
        row = self._db.row(
            "SELECT state, tree FROM snapshots WHERE group_id = ? AND epoch_id = ?",
            group,
            epoch_id,
        )
        return None if row is None else (row[0], row[1])

    def last_incarnation(self, group: GroupId) -> int:
        """The highest that any state of this group was stored under."""
        return int(
            self._db.value(
                "SELECT max(incarnation) FROM (SELECT incarnation FROM groups WHERE id = ?1"
                " UNION ALL SELECT incarnation FROM snapshots WHERE group_id = ?1)",
                group,
                default=1,
            )
        )

    def next_generation(self, group: GroupId, epoch_id: EpochId) -> int:
        """The first generation of ours that is unused in an epoch."""
        return int(
            self._db.value(
                "SELECT next FROM generations WHERE group_id = ? AND epoch_id = ?",
                group,
                epoch_id,
                default=0,
            )
        )

    def put_next_generation(self, row: GroupRow, generation: int) -> None:
        """Generations of ours below it are used in this epoch; never taken back."""
        self._db.run(
            "INSERT INTO generations VALUES (?1, ?2, ?3)"
            " ON CONFLICT (group_id, epoch_id) DO UPDATE SET next = max(next, ?3)",
            row.id,
            row.epoch_id,
            generation,
        )

    # --- commits: the rest of what is known of them is in `branches`

    def forget_commits(self, group: GroupId) -> None:
        self._db.run("DELETE FROM commits WHERE group_id = ?", group)

    def entered(self, group: GroupId, epoch_id: EpochId) -> bool:
        """This device entered the epoch with that id."""
        return (
            self._db.row(
                "SELECT 1 FROM commits WHERE group_id = ? AND epoch_id = ?", group, epoch_id
            )
            is not None
        )

    def was_member(self, group: GroupId, device: DeviceKey) -> bool:
        """A member now, or removed by a commit that we hold."""
        if self._db.row("SELECT 1 FROM members WHERE group_id = ? AND device = ?", group, device):
            return True
        rows = self._db.rows(
            # Without the search in SQL a stranger makes us decode every header there is.
            "SELECT header FROM commits WHERE group_id = ? AND instr(header, ?) > 0",
            group,
            device,
        )
        headers = (CommitHeader.decode(Signed.decode(row[0]).payload) for row in rows)
        return any(device == member.device for header in headers for member in header.removed)

    def entered_at(self, row: GroupRow) -> float:
        """When this device came to the group's head."""
        return float(
            self._db.value(
                "SELECT arrival FROM commits WHERE group_id = ? AND hash = ?",
                row.id,
                row.head,
                default=row.joined,
            )
        )

    # --- key updates

    def key_update(self, group: GroupId) -> tuple[int, float | None]:
        """(Lamport time when our leaf was made, when it is due to be refreshed)."""
        row = self._db.row("SELECT lamport, due FROM key_updates WHERE group_id = ?", group)
        return (0, None) if row is None else (row[0], row[1])

    def set_key_update(self, group: GroupId, lamport: int, due: float | None) -> None:
        self._db.run("INSERT OR REPLACE INTO key_updates VALUES (?, ?, ?)", group, lamport, due)

    # --- statements

    def statement(self, group: GroupId, device: DeviceKey) -> Signed | None:
        found = self._statements.value.get((group, device))
        if found is None:
            data = self._db.value(
                "SELECT signed FROM statements WHERE group_id = ? AND device = ?", group, device
            )
            if data is None:
                return None
            found = self._statements.value[group, device] = Signed.decode(data)
        return found

    def put_statement(self, device: DeviceKey, signed: Signed, statement: Statement) -> None:
        """Keeps the one with the highest number."""
        self._statements.value.pop((statement.group, device), None)
        self._db.run(
            "INSERT INTO statements VALUES (?1, ?2, ?3, ?4) ON CONFLICT (group_id, device)"
            " DO UPDATE SET number = ?3, signed = ?4 WHERE number < ?3",
            statement.group,
            device,
            statement.number,
            signed.encode(),
        )


def _group(row: Any) -> GroupRow:
    found = GroupRow(*row)
    found.id = GroupId(found.id)
    found.accepted = bool(found.accepted)
    found.inviter = None if found.inviter is None else IdentityKey(found.inviter)
    found.head = CommitHash(found.head)
    found.epoch_id = EpochId(found.epoch_id)
    return found
