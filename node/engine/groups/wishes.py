"""Signed wishes of members (so far: to leave), carried by one commit of the lowest rank."""

from __future__ import annotations

import hashlib
from contextlib import suppress

import mls_rs

from node.engine.core import Core
from node.engine.groups.membership import Membership
from node.engine.values import GroupStatus
from node.store.groups import GroupRow
from schemas.errors import Fault
from schemas.group_records import Intent, IntentKind
from schemas.ids import DeviceKey, GroupId
from schemas.records import Signed

QUIET_S = 1.0
STEP_S = 0.7  # later ranks wait for the earlier
RANKS = 20
AGAIN_S = 60.0
AFTER_START_S = 10.0  # what others did meanwhile may be on its way


class Wishes:
    def __init__(self, core: Core, membership: Membership) -> None:
        self._core = core
        self._membership = membership
        self._due: dict[GroupId, tuple[bytes, float]] = {}  # epoch id, when we would commit

    def tick(self) -> None:
        """Carries what is due; schedules what is new."""
        core = self._core
        waiting = core.groups.groups_with_open_intents()
        self._due = {group: due for group, due in self._due.items() if group in waiting}
        for group in waiting:
            row = core.groups.get(group)
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
        leaving = {
            intent.author
            for intent, _, _ in core.groups.open_intents(row.id)
            if intent.kind is IntentKind.LEAVE
        }
        if members - leaving == {core.device.public}:
            row.status = GroupStatus.LEFT
            core.groups.save(row)
            core.groups.set_members(row.id, [])
            core.emit("left", group=row.id.hex(), name=row.name)

    def _consider(self, row: GroupRow) -> None:
        core = self._core
        members = {member.device for member in core.groups.members(row.id)}
        open_intents = core.groups.open_intents(row.id)
        leaving = [
            (intent, signed)
            for intent, signed, _ in open_intents
            if intent.kind is IntentKind.LEAVE and intent.author in members
        ]
        staying = sorted(
            members - {intent.author for intent, _ in leaving},
            key=lambda device: rank_key(row, device),
        )
        if not leaving or core.device.public not in staying:
            return
        epoch_id, when = self._due.get(row.id, (b"", 0.0))
        if epoch_id != row.epoch_id:
            place = min(staying.index(core.device.public), RANKS)
            when = core.now + QUIET_S + STEP_S * place
            if min(seen for _, _, seen in open_intents) < core.started:
                when += AFTER_START_S
            self._due[row.id] = (row.epoch_id, when)
        if when <= core.now:
            self._due[row.id] = (row.epoch_id, core.now + AGAIN_S)
            self._carry(row, leaving)

    def _carry(self, row: GroupRow, leaving: list[tuple[Intent, Signed]]) -> None:
        """A wish that cannot be carried must not stop the clock for everything else."""
        with suppress(Fault, mls_rs.MlsError), self._core.undoable():
            self._membership.carry(row, leaving)

    def clock_went_back(self) -> None:
        self._due.clear()

    def next_due(self) -> float | None:
        return min((when for _, when in self._due.values()), default=None)


def rank_key(row: GroupRow, device: DeviceKey) -> bytes:
    """Members take turns by `SHA-256(epoch id ‖ device key)`: other ones first in each epoch."""
    return hashlib.sha256(row.epoch_id + device).digest()
