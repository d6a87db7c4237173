"""Signed wishes of members, carried by one commit of the lowest rank."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import suppress

import mls_rs

from node.engine.core import Core
from node.engine.groups.intents import Intents
from node.engine.groups.membership import Membership
from node.engine.values import HOLDING, GroupStatus
from node.store.groups import GroupRow
from node.store.intents import Wish
from schemas.errors import Fault
from schemas.group_records import IntentKind
from schemas.ids import DeviceKey, GroupId

QUIET_S = 1.0
STEP_S = 0.7  # later ranks wait for the earlier
RANKS = 20
AGAIN_S = 60.0
AFTER_START_S = 10.0  # what others did meanwhile may be on its way


class Wishes:
    def __init__(self, core: Core, intents: Intents, membership: Membership) -> None:
        self._core = core
        self._intents = intents
        self._membership = membership
        self._due: dict[GroupId, tuple[bytes, float]] = {}  # epoch id, when we would commit

    def tick(self) -> None:
        """Carries what is due; schedules what is new."""
        core = self._core
        waiting = core.intents.groups()
        self._due = {group: due for group, due in self._due.items() if group in waiting}
        for group in waiting:
            row = core.groups.get(group)
            if row is not None and row.status in HOLDING:
                self._intents.sign_anew(row)
            if row is not None and row.status == GroupStatus.LEAVING:
                self._leave_the_empty(row)
            inactive = row is None or row.status != GroupStatus.ACTIVE or not row.accepted
            if row is None or inactive or core.is_damaged(group):
                self._due.pop(group, None)
                continue
            self._consider(row)

    def _leave_the_empty(self, row: GroupRow) -> None:
        """Everybody leaves: nobody stays who could commit it."""
        core = self._core
        members = {member.device for member in core.groups.members(row.id)}
        if members - self._leaving(row) <= {core.device.public}:
            row.status = GroupStatus.LEFT
            core.groups.save(row)
            core.groups.set_members(row.id, [])
            core.emit("left", group=row.id.hex(), name=row.name)

    def _leaving(self, row: GroupRow) -> set[DeviceKey]:
        return {
            wish.intent.author
            for wish in self._core.intents.open(row.id)
            if wish.intent.kind is IntentKind.LEAVE
        }

    def _consider(self, row: GroupRow) -> None:
        core = self._core
        members = {member.device for member in core.groups.members(row.id)}
        wishes = [wish for wish in core.intents.open(row.id) if wish.intent.author in members]
        staying = sorted(members - self._leaving(row), key=lambda device: rank_key(row, device))
        if not wishes or core.device.public not in staying:
            self._due.pop(row.id, None)
            return
        epoch_id, when = self._due.get(row.id, (b"", 0.0))
        if epoch_id != row.epoch_id:
            place = min(staying.index(core.device.public), RANKS)
            when = core.now + QUIET_S + STEP_S * place
            if min(wish.seen for wish in wishes) < core.started:
                when += AFTER_START_S
            self._due[row.id] = (row.epoch_id, when)
        if when <= core.now:
            self._due[row.id] = (row.epoch_id, core.now + AGAIN_S)
            self._carry(row, wishes)

    def _carry(self, row: GroupRow, wishes: Sequence[Wish]) -> None:
        """A wish that cannot be carried must not stop the clock for everything else."""
        with suppress(Fault, mls_rs.MlsError), self._core.undoable():
            self._membership.carry(row, wishes)

    def clock_went_back(self) -> None:
        self._due.clear()

    def next_due(self) -> float | None:
        return min((when for _, when in self._due.values()), default=None)


def rank_key(row: GroupRow, device: DeviceKey) -> bytes:
    """Members take turns by `SHA-256(epoch id ‖ device key)`: other ones first in each epoch."""
    return hashlib.sha256(row.epoch_id + device).digest()
