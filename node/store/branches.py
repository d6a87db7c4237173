"""Rows of what fork choice goes by: commits of every branch, statements, proofs, and ways in.

A way into a branch is a snapshot of an epoch that we left, or a Welcome to it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

from node.store.database import Database, Remembered
from node.store.groups import GroupRow
from schemas import limits
from schemas.group_records import CommitHeader, Statement
from schemas.ids import CommitHash, DeviceKey, EpochId, GroupId
from schemas.parcels import ParcelBody
from schemas.records import Signed

COMMIT_S = 30 * 86_400.0  # how long the bytes of a commit are kept, within the bytes of snapshots
HEADERS = 1000  # epochs back of which anything is known
_WELCOMES = 16  # per group, the newest


@dataclass(frozen=True, slots=True)
class CommitRow:
    """A commit as its header tells it; without one it is the first epoch of a group's creator."""

    hash: CommitHash
    parent: CommitHash
    epoch: int
    epoch_id: EpochId | None  # known when this device was in that epoch
    header: CommitHeader | None
    here: bool  # its MLS bytes are
    size: int
    arrival: float
    entered: float | None  # when this device last came to it
    invalid: str | None  # why it is never chosen


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The MLS state as it was when an epoch was left."""

    head: CommitHash
    epoch_id: EpochId
    epoch: int
    incarnation: int


class BranchStore:
    def __init__(self, database: Database) -> None:
        self._db = database
        self._commits: Remembered[dict[GroupId, dict[CommitHash, CommitRow]]] = Remembered(
            database, dict
        )
        self._statements: Remembered[dict[GroupId, dict[DeviceKey, Statement]]] = Remembered(
            database, dict
        )

    # --- commits

    def commits(self, group: GroupId) -> dict[CommitHash, CommitRow]:
        """All that are known; not to be changed."""
        found = self._commits.value.get(group)
        if found is None:
            rows = self._db.rows(
                "SELECT hash, parent, epoch, epoch_id, header, mls IS NOT NULL,"
                " coalesce(length(mls), 0), arrival, entered, invalid"
                " FROM commits WHERE group_id = ?",
                group,
            )
            found = {}
            for row in rows:
                header = None
                if row[4] is not None:
                    header = CommitHeader.decode(Signed.decode(row[4]).payload)
                epoch_id = None if row[3] is None else EpochId(row[3])
                found[CommitHash(row[0])] = CommitRow(
                    CommitHash(row[0]),
                    CommitHash(row[1]),
                    row[2],
                    epoch_id,
                    header,
                    bool(row[5]),
                    *row[6:],
                )
            self._commits.value[group] = found
        return found

    def devices(self, group: GroupId) -> set[DeviceKey]:
        """All that any commit known adds, removes or is by, and the members."""
        rows = self._db.rows("SELECT device FROM members WHERE group_id = ?", group)
        found = {DeviceKey(row[0]) for row in rows}
        for row in self.commits(group).values():
            if row.header is not None:
                found.add(row.header.author)
                found.update(member.device for member in row.header.added + row.header.removed)
        return found

    def forked(self, group: GroupId) -> bool:
        """Some commit has two children."""
        parents = Counter(
            row.parent
            for row in self.commits(group).values()
            if row.invalid is None and row.parent != row.hash
        )
        return any(count > 1 for count in parents.values())

    def add(
        self, group: GroupId, header: CommitHeader, signed: Signed, mls: bytes | None, now: float
    ) -> bool:
        """A commit that this device has not entered. False when it is known, with its bytes."""
        old = self.commits(group).get(header.commit)
        if old is not None and (old.here or mls is None):
            return False
        self._db.run(
            "INSERT INTO commits (group_id, hash, parent, epoch, header, mls, arrival)"
            " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)"
            " ON CONFLICT (group_id, hash) DO UPDATE SET mls = ?6, header = ?5, parent = ?3,"
            " epoch = ?4",
            group,
            header.commit,
            header.parent,
            header.epoch,
            signed.encode(),
            mls,
            now,
        )
        self._put(
            group,
            CommitRow(
                header.commit,
                header.parent,
                header.epoch,
                None if old is None else old.epoch_id,
                header,
                mls is not None,
                len(mls or b""),
                now if old is None else old.arrival,
                None if old is None else old.entered,
                None if old is None else old.invalid,
            ),
        )
        return True

    def enter(
        self,
        row: GroupRow,
        header: CommitHeader | None,
        signed: Signed | None,
        mls: bytes | None,
        epoch_id: EpochId | None,
        now: float,
    ) -> None:
        """The group's head is this commit from now on (`epoch_id` None: it removes us)."""
        parent = row.head if header is None else header.parent
        old = self.commits(row.id).get(row.head)
        self._db.run(
            "INSERT INTO commits (group_id, hash, parent, epoch, epoch_id, header, mls, arrival,"
            " entered) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?8)"
            " ON CONFLICT (group_id, hash) DO UPDATE SET epoch_id = coalesce(?5, epoch_id),"
            " mls = coalesce(mls, ?7), header = ?6, entered = ?8, invalid = NULL",
            row.id,
            row.head,
            parent,
            row.epoch if header is None else header.epoch,
            epoch_id,
            None if signed is None else signed.encode(),
            mls,
            now,
        )
        self._put(
            row.id,
            CommitRow(
                row.head,
                parent,
                row.epoch if header is None else header.epoch,
                epoch_id or (None if old is None else old.epoch_id),
                header,
                mls is not None or (old is not None and old.here),
                len(mls or b"") or (0 if old is None else old.size),
                now if old is None else old.arrival,
                now,
                None,
            ),
        )

    def come_back(self, group: GroupId, commit: CommitHash, now: float) -> None:
        """This device stands on a commit again that it had left."""
        self._db.run(
            "UPDATE commits SET entered = ? WHERE group_id = ? AND hash = ?", now, group, commit
        )
        self._put(group, replace(self.commits(group)[commit], entered=now))

    def set_invalid(self, group: GroupId, commit: CommitHash, why: str) -> None:
        """It is never chosen; its bytes are kept from coming again by its hash."""
        self._db.run(
            "UPDATE commits SET invalid = ? WHERE group_id = ? AND hash = ?", why, group, commit
        )
        self._put(group, replace(self.commits(group)[commit], invalid=why))

    def drop(self, group: GroupId, commit: CommitHash) -> None:
        self._db.run("DELETE FROM commits WHERE group_id = ? AND hash = ?", group, commit)
        self.commits(group).pop(commit, None)

    def _put(self, group: GroupId, row: CommitRow) -> None:
        self.commits(group)[row.hash] = row

    def content(self, group: GroupId, commit: CommitHash) -> tuple[Signed, bytes] | None:
        """(header as signed, MLS bytes), when both are here."""
        row = self._db.row(
            "SELECT header, mls FROM commits WHERE group_id = ? AND hash = ?"
            " AND header IS NOT NULL AND mls IS NOT NULL",
            group,
            commit,
        )
        return None if row is None else (Signed.decode(row[0]), row[1])

    def forget(self, group: GroupId) -> None:
        """After the rows of a group were deleted."""
        self._commits.value.pop(group, None)
        self._statements.value.pop(group, None)

    # --- statements

    def statements(self, group: GroupId) -> dict[DeviceKey, Statement]:
        """Of each device the latest; not to be changed."""
        found = self._statements.value.get(group)
        if found is None:
            rows = self._db.rows(
                "SELECT device, signed FROM statements WHERE group_id = ? ORDER BY device", group
            )
            found = {
                DeviceKey(device): Statement.decode(Signed.decode(signed).payload)
                for device, signed in rows
            }
            self._statements.value[group] = found
        return found

    def note_statement(self, device: DeviceKey, statement: Statement) -> None:
        """After it was stored."""
        self.statements(statement.group)[device] = statement

    def equivocators(self, group: GroupId) -> frozenset[DeviceKey]:
        rows = self._db.rows("SELECT device FROM equivocations WHERE group_id = ?", group)
        return frozenset(DeviceKey(row[0]) for row in rows)

    def add_proof(self, group: GroupId, device: DeviceKey, first: Signed, second: Signed) -> bool:
        """False when there is a proof against this device."""
        return bool(
            self._db.run(
                "INSERT OR IGNORE INTO equivocations VALUES (?, ?, ?, ?)",
                group,
                device,
                first.encode(),
                second.encode(),
            )
        )

    # --- snapshots

    def snapshots(self, group: GroupId) -> dict[CommitHash, Snapshot]:
        """By the commit that opened the epoch."""
        rows = self._db.rows(
            "SELECT head, epoch_id, epoch, incarnation FROM snapshots WHERE group_id = ?"
            " ORDER BY epoch",
            group,
        )
        return {
            CommitHash(head): Snapshot(CommitHash(head), EpochId(epoch_id), epoch, incarnation)
            for head, epoch_id, epoch, incarnation in rows
        }

    def restore(self, group: GroupId, snapshot: Snapshot, state: bytes, tree: bytes) -> None:
        """The state on disk is that of the snapshot again, and later epochs' secrets are gone."""
        for table, blob in (("group_state", state), ("group_tree", tree)):
            self._db.run(
                f"INSERT OR REPLACE INTO {table} VALUES (?, ?, ?)",  # noqa: S608
                group,
                snapshot.incarnation,
                blob,
            )
        self._db.run(
            "DELETE FROM epochs WHERE group_id = ? AND incarnation = ? AND epoch >= ?",
            group,
            snapshot.incarnation,
            snapshot.epoch,
        )

    # --- Welcomes

    def keep_welcome(
        self, group: GroupId, commit: CommitHash, body: ParcelBody, now: float
    ) -> None:
        self._db.run(
            "INSERT OR REPLACE INTO welcomes VALUES (?, ?, ?, ?)",
            group,
            commit,
            body.encode(),
            now,
        )
        self._db.run(
            "DELETE FROM welcomes WHERE group_id = ?1 AND commit_hash NOT IN (SELECT commit_hash"
            " FROM welcomes WHERE group_id = ?1 ORDER BY arrival DESC LIMIT ?2)",
            group,
            _WELCOMES,
        )

    def welcomes(self, group: GroupId) -> set[CommitHash]:
        rows = self._db.rows("SELECT commit_hash FROM welcomes WHERE group_id = ?", group)
        return {CommitHash(row[0]) for row in rows}

    def welcome(self, group: GroupId, commit: CommitHash) -> ParcelBody | None:
        data = self._db.value(
            "SELECT body FROM welcomes WHERE group_id = ? AND commit_hash = ?", group, commit
        )
        return None if data is None else ParcelBody.decode(data)

    def drop_welcome(self, group: GroupId, commit: CommitHash) -> None:
        self._db.run("DELETE FROM welcomes WHERE group_id = ? AND commit_hash = ?", group, commit)

    # --- housekeeping

    def sweep(self, now: float) -> None:
        """What is older than any snapshot is no way in any more; what nobody can still lack goes.

        A commit's bytes are nobody's secret: they stay for longer, for who comes back late.
        """
        self._db.run("DELETE FROM welcomes WHERE arrival < ?", now - limits.SNAPSHOT_AGE_S)
        self._db.run("DELETE FROM snapshots WHERE taken < ?", now - limits.SNAPSHOT_AGE_S)
        gone = self._db.run(
            "DELETE FROM commits WHERE entered IS NULL AND arrival < ?", now - COMMIT_S
        )
        gone += self._db.run(
            "UPDATE commits SET mls = NULL WHERE mls IS NOT NULL AND (arrival < ?1"
            " OR (group_id, hash) NOT IN (SELECT group_id, hash FROM ("
            "  SELECT group_id, hash, sum(length(mls)) OVER (PARTITION BY group_id"
            "  ORDER BY epoch DESC, arrival DESC, hash) AS total FROM commits)"
            " WHERE total <= ?2))",
            now - COMMIT_S,
            limits.SNAPSHOT_BYTES,
        )
        gone += self._db.run(
            "DELETE FROM commits WHERE epoch < (SELECT epoch FROM groups WHERE id = group_id) - ?",
            HEADERS,
        )
        if gone:
            self._commits.forget()
