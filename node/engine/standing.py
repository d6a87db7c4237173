"""Where the members of a group stand, as far as this device was told."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from node.engine.core import Core
from node.engine.values import MemberView, Standing
from node.store import reports
from node.store.branches import CommitRow
from node.store.groups import GroupRow
from schemas.group_records import CommitHeader, Summary
from schemas.ids import CommitHash, DeviceKey
from schemas.records import Signed

Commits = Mapping[CommitHash, CommitRow]


@dataclass(frozen=True, slots=True)
class Place:
    """`epoch` is None while it is not known."""

    standing: Standing
    epoch: int | None

    @property
    def how_far(self) -> tuple[float, bool]:
        if self.standing is Standing.UNKNOWN:
            return -math.inf, False
        return math.inf if self.epoch is None else self.epoch, self.standing is Standing.HERE


def places(core: Core, row: GroupRow) -> dict[DeviceKey, Place]:
    """Of each member's device: its latest statement or its last summary, whichever is farther."""
    commits = core.branches.commits(row.id)
    statements = core.branches.statements(row.id)
    summaries = reports.summaries(core.db, row.id)
    ours = _path(commits, row.head)
    found: dict[CommitHash, Place] = {}
    answer = {}
    for member in core.groups.members(row.id):
        heads = []
        if member.device in statements:
            heads.append(statements[member.device].commit)
        if member.device in summaries:
            heads.append(Summary.head_of(Signed.decode(summaries[member.device]).payload))
        for head in heads:
            if head not in found:
                found[head] = _place(row, head, commits, ours)
        heard = [
            found[head]
            for head in heads
            if found[head].standing is not Standing.ELSEWHERE
            or not _is_void(commits, ours, head, member.device)
        ]
        answer[member.device] = max(
            heard, key=lambda place: place.how_far, default=Place(Standing.UNKNOWN, None)
        )
    if core.device.public in answer:
        answer[core.device.public] = Place(Standing.HERE, row.epoch)
    return answer


def _is_void(
    commits: Commits, ours: Mapping[CommitHash, int], head: CommitHash, device: DeviceKey
) -> bool:
    """It said that it stood there before our branch took it in again."""
    for commit in ours:
        row = commits.get(commit)
        header = None if row is None else row.header
        if header is not None and _has_new_leaf(header, device):
            return commit not in _path(commits, head)
    return False


def _has_new_leaf(header: CommitHeader, device: DeviceKey) -> bool:
    """Removed and added in one commit."""
    return all(
        any(member.device == device for member in members)
        for members in (header.removed, header.added)
    )


def _path(commits: Commits, head: CommitHash) -> dict[CommitHash, int]:
    """The commits that `head` came from, the newest first, with their epochs; the parent of the
    first that is known is one of them. Headers are others' word, and could lead in a circle."""
    path: dict[CommitHash, int] = {}
    epoch = 0
    while (row := commits.get(head)) is not None and head not in path:
        path[head] = row.epoch
        head, epoch = row.parent, row.epoch - 1
    path.setdefault(head, epoch)
    return path


def _place(
    row: GroupRow, head: CommitHash, commits: Commits, ours: Mapping[CommitHash, int]
) -> Place:
    if head == row.head:
        return Place(Standing.HERE, row.epoch)
    if head in ours:
        return Place(Standing.BEHIND, ours[head])
    commit = commits.get(head)
    if commit is None:
        return Place(Standing.AHEAD, None)
    below = row.head in _path(commits, head)
    return Place(Standing.AHEAD if below else Standing.ELSEWHERE, commit.epoch)


def farthest(member: MemberView, found: dict[DeviceKey, Place]) -> Place:
    """Of a person's devices."""
    return max((found[device] for device in member.devices), key=lambda place: place.how_far)
