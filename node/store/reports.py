"""What people ask about a group and no rule does: where its members stand, and what waits in it."""

from __future__ import annotations

from node.store.database import Database
from schemas.ids import DeviceKey, GroupId, MessageId

_OPEN = "('queued', 'sent', 'held', 'carried')"


def summaries(db: Database, group: GroupId) -> dict[DeviceKey, bytes]:
    """The last of each device, as signed."""
    rows = db.rows("SELECT device, signed FROM peer_summaries WHERE group_id = ?", group)
    return {DeviceKey(device): signed for device, signed in rows}


def early(db: Database, group: GroupId) -> list[tuple[bytes, float]]:
    """(body, when it came) of parcels that wait for a commit or Welcome, oldest first."""
    return db.rows("SELECT body, arrival FROM future WHERE group_id = ? ORDER BY arrival", group)


def snapshots(db: Database, group: GroupId) -> tuple[int, int, int]:
    """(how many, bytes, the oldest one's epoch)."""
    return db.row(  # type: ignore[no-any-return]
        "SELECT count(*), coalesce(sum(bytes), 0), coalesce(min(epoch), 0) FROM snapshots"
        " WHERE group_id = ?",
        group,
    )


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
