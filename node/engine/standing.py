"""Where the members of a group stand, as far as this device was told."""

from __future__ import annotations

import math
from dataclasses import dataclass

from node.engine.core import Core
from node.engine.values import MemberView, Standing
from node.store import reports
from node.store.groups import GroupRow
from schemas.group_records import Statement, Summary
from schemas.ids import CommitHash, DeviceKey
from schemas.records import Signed


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
    said = {word.device: _heads(word) for word in reports.words(core.db, row.id)}
    heads = {head for each in said.values() for head in each}
    epochs = reports.epochs(core.db, row.id, heads)
    ours = reports.path(core.db, row.id, row.head, min(epochs.values(), default=row.epoch))
    found = {head: _place(core, row, head, epochs.get(head), ours) for head in heads}
    unknown = Place(Standing.UNKNOWN, None)
    answer = {
        device: max(
            (found[head] for head in each), key=lambda place: place.how_far, default=unknown
        )
        for device, each in said.items()
    }
    if core.device.public in answer:
        answer[core.device.public] = Place(Standing.HERE, row.epoch)
    return answer


def _heads(word: reports.Word) -> list[CommitHash]:
    heads = []
    if word.statement is not None:
        heads.append(Statement.decode(Signed.decode(word.statement).payload).commit)
    if word.summary is not None:
        heads.append(Summary.head_of(Signed.decode(word.summary).payload))
    return heads


def _place(
    core: Core, row: GroupRow, head: CommitHash, epoch: int | None, ours: dict[CommitHash, int]
) -> Place:
    if head == row.head:
        return Place(Standing.HERE, row.epoch)
    if head in ours:
        return Place(Standing.BEHIND, ours[head])
    if epoch is None:
        return Place(Standing.AHEAD, None)
    below = epoch > row.epoch and row.head in reports.path(core.db, row.id, head, row.epoch)
    return Place(Standing.AHEAD if below else Standing.ELSEWHERE, epoch)


def farthest(member: MemberView, found: dict[DeviceKey, Place]) -> Place:
    """Of a person's devices."""
    return max((found[device] for device in member.devices), key=lambda place: place.how_far)
