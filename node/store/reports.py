"""What people ask about a group and no rule does: where its members stand, and what waits in it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from node.store.database import Database
from schemas.ids import CommitHash, DeviceKey, GroupId, MessageId

_OPEN = "('queued', 'sent', 'held', 'carried')"


@dataclass(frozen=True, slots=True)
class Word:
    """What a member's device said last, as signed: its statement and its summary."""

    device: DeviceKey
    statement: bytes | None
    summary: bytes | None


def words(db: Database, group: GroupId) -> list[Word]:
    """One of each device that is a member."""
    rows = db.rows(
        "SELECT m.device, s.signed, p.signed FROM members m"
        " LEFT JOIN statements s USING (group_id, device)"
        " LEFT JOIN peer_summaries p USING (group_id, device)"
        " WHERE m.group_id = ? ORDER BY m.leaf",
        group,
    )
    return [Word(DeviceKey(row[0]), *row[1:]) for row in rows]


def epochs(db: Database, group: GroupId, commits: Iterable[CommitHash]) -> dict[CommitHash, int]:
    """Of those commits that are known."""
    found = {}
    for commit in commits:
        sql = "SELECT epoch FROM commits WHERE group_id = ? AND hash = ?"
        if (epoch := db.value(sql, group, commit)) is not None:
            found[commit] = int(epoch)
    return found


def path(db: Database, group: GroupId, head: CommitHash, least: int) -> dict[CommitHash, int]:
    """The commits that `head` came from, with their epochs, down to the epoch `least`; the parent
    of the last is one of them, known or not."""
    rows = db.rows(
        # UNION, not UNION ALL: headers are others' word, and could lead in a circle.
        "WITH RECURSIVE path(hash, epoch) AS ("
        "  SELECT hash, epoch FROM commits WHERE group_id = ?1 AND hash = ?2"
        "  UNION SELECT c.parent, c.epoch - 1 FROM path p"
        "  JOIN commits c ON c.group_id = ?1 AND c.hash = p.hash WHERE p.epoch > ?3"
        ") SELECT hash, epoch FROM path",
        group,
        head,
        least,
    )
    return {CommitHash(commit): epoch for commit, epoch in rows}


def early(db: Database, group: GroupId) -> tuple[int, float]:
    """(how many parcels wait for a commit or Welcome, when the oldest came)."""
    row = db.row("SELECT count(*), coalesce(min(arrival), 0) FROM future WHERE group_id = ?", group)
    return row[0], row[1]


def snapshots(db: Database, group: GroupId) -> tuple[int, int, int]:
    """(how many, bytes, the oldest one's epoch)."""
    return db.row(  # type: ignore[no-any-return]
        "SELECT count(*), coalesce(sum(bytes), 0), coalesce(min(epoch), 0) FROM snapshots"
        " WHERE group_id = ?",
        group,
    )


def equivocators(db: Database, group: GroupId) -> list[DeviceKey]:
    rows = db.rows("SELECT device FROM equivocations WHERE group_id = ?", group)
    return [DeviceKey(row[0]) for row in rows]


def waiting(db: Database, group: GroupId, latest: int) -> list[tuple[MessageId, DeviceKey, int]]:
    """Messages of ours that are not settled, one of each device, state and reason, and how many.

    All that is under way or queued; what ended badly, of the `latest` messages of ours.
    """
    what = "SELECT message, device, count(*), min(sequence) FROM ledger"
    sort = "GROUP BY device, state, reason ORDER BY 4"
    under_way = db.rows(
        f"{what} INDEXED BY ledger_open WHERE group_id = ? AND state IN {_OPEN} {sort}",
        group,
    )
    lost = db.rows(
        f"{what} WHERE state IN ('expired', 'refused') AND message IN ("  # noqa: S608
        "  SELECT id FROM messages WHERE group_id = ? AND own = 1 ORDER BY arrival DESC LIMIT ?"
        f") {sort}",
        group,
        latest,
    )
    return [(MessageId(row[0]), DeviceKey(row[1]), row[2]) for row in [*under_way, *lost]]
