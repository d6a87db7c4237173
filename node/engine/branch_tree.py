"""What two members compare of a group's commits and votes, and who was a member where.

Pure functions over the commits that are known, of every branch.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from hashlib import sha256

from node.store.branches import CommitRow
from schemas.group_records import Statement
from schemas.ids import CommitHash, DeviceKey, IntentId
from schemas.limits import SNAPSHOT_EPOCHS

Commits = Mapping[CommitHash, CommitRow]
HALF = 16  # bytes of a digest: commits first, then votes


def path(commits: Commits, head: CommitHash) -> set[CommitHash]:
    """A commit and all that it comes from, as far as they are known."""
    found: set[CommitHash] = set()
    row = commits.get(head)
    while row is not None and row.hash not in found:
        found.add(row.hash)
        row = commits.get(row.parent)
    return found


def names(commits: Commits, device: DeviceKey) -> bool:
    """Some commit adds or removes it."""
    return any(any(_change(row, device)) for row in commits.values())


def added_at(commits: Commits, device: DeviceKey) -> int:
    """The epoch that a device's last addition opened, of those that we entered ourselves: others
    are somebody's word. 0 for a member from before."""
    entered = (row for row in commits.values() if row.entered is not None)
    return max((row.epoch for row in entered if _change(row, device)[0]), default=0)


def has_entered(
    commits: Commits, head: CommitHash, device: DeviceKey, stands_on: CommitHash | None
) -> bool:
    """Whether a device that stands on a commit has used what let it in on the way to `head`."""
    let_in = entry(commits, head, device)
    return let_in is None or (stands_on is not None and let_in.hash in path(commits, stands_on))


def entry(commits: Commits, head: CommitHash, device: DeviceKey) -> CommitRow | None:
    """The last commit on the way to a head that let a device in."""
    found = (commits[commit] for commit in path(commits, head))
    let_in = (row for row in found if _change(row, device)[0])
    return max(let_in, key=lambda row: row.epoch, default=None)


def in_range(
    commits: Commits, head_epoch: int, devices: Iterable[DeviceKey]
) -> dict[CommitHash, CommitRow]:
    """What all of these devices can hold: since the last of them was added, within the bound."""
    first = max(head_epoch - SNAPSHOT_EPOCHS, *(added_at(commits, device) for device in devices))
    return {row.hash: row for row in commits.values() if row.epoch >= first}


def digest(
    commits: Commits,
    statements: Mapping[DeviceKey, Statement],
    equivocators: Collection[DeviceKey],
    wishes: Iterable[IntentId],
    members: Iterable[DeviceKey],
) -> bytes:
    """32 bytes that are equal where two members know the same: commits, then votes.

    `commits` are those of `in_range`. Votes are the statements of members and of who was removed
    in the range, proofs of equivocation, and open wishes.
    """
    known = sha256()
    voters = set(members)
    for commit in sorted(commits):
        row = commits[commit]
        usable = row.here or row.epoch_id is not None  # what is only heard of, is still asked for
        known.update(commit + bytes([usable]))
        if row.header is not None:
            voters.update(ref.device for ref in row.header.removed)
    votes = sha256()
    for device in sorted(voters):
        statement = statements.get(device)
        if device in equivocators:
            votes.update(device)
        elif statement is not None:
            votes.update(device + statement.number.to_bytes(8, "big"))
            votes.update(statement.commit + statement.epoch_id)
    for wish in sorted(wishes):
        votes.update(wish)
    return known.digest()[:HALF] + votes.digest()[:HALF]


def member_before(commits: Commits, device: DeviceKey, *, now: bool) -> dict[CommitHash, bool]:
    """Whether a device was a member before each commit. `now`: it is one at our head."""
    ordered = sorted(commits.values(), key=lambda row: (row.epoch, row.hash))
    changes = [(row, *_change(row, device)) for row in ordered]
    # Who is removed first was there before the oldest commit that we know.
    at_first = next(
        (removed for row, added, removed in changes if row.entered and (added or removed)), now
    )
    before: dict[CommitHash, bool] = {}
    after: dict[CommitHash, bool] = {}
    for row, added, removed in changes:
        before[row.hash] = after.get(row.parent, at_first)
        after[row.hash] = added or (before[row.hash] and not removed)
    return before


def _change(row: CommitRow, device: DeviceKey) -> tuple[bool, bool]:
    """Whether it adds that device, and whether it removes it; both, to let it in again."""
    if row.header is None:
        return False, False
    return (
        any(ref.device == device for ref in row.header.added),
        any(ref.device == device for ref in row.header.removed),
    )
