"""Fresh leaf keys by themselves: within a week of activity each member commits an update once.

That heals a group whose keys somebody stole (RFC 9420 section 16.6). Members must not do it at
once, because concurrent commits split a group: the time is drawn per device and epoch, and when
it has come, each member waits for a slot of its own in the quiet after the last commit.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from typing import Final

import mls_rs

from node.engine import commands
from node.engine.core import Core
from node.engine.groups.membership import Membership
from node.engine.groups.wishes import AFTER_START_S, rank_key
from node.engine.values import GroupStatus
from node.store.groups import GroupRow
from schemas import limits
from schemas.errors import Fault
from schemas.ids import DeviceKey, GroupId

WITHIN_S: Final = 7 * 86_400.0  # of the first message after the last update
MEMBERS_PER_WEEK: Final = 50  # larger groups take longer: each commit goes to everybody
QUIET_S: Final = 60.0  # after a commit, for it to reach the others
SLOT_S: Final = 5.0
LOOK_S: Final = 60.0
AGAIN_S: Final = 3600.0


class KeyUpdates:
    def __init__(self, core: Core, membership: Membership) -> None:
        self._core = core
        self._membership = membership
        self._next_look = 0.0
        self._slots: dict[GroupId, tuple[bytes, float]] = {}  # epoch id, when our slot comes

    def tick(self) -> None:
        """Draws times, looks for slots, and makes the commits whose slot has come."""
        now = self._core.now
        for group, (epoch_id, when) in list(self._slots.items()):
            if when <= now:
                del self._slots[group]
                row = self._core.groups.get(group)
                # A slot that was slept through is somebody else's by now.
                if row is not None and row.epoch_id == epoch_id and now < when + SLOT_S:
                    self._update(row)
        if now >= self._next_look:
            self._next_look = now + LOOK_S
            self._look()

    def next_due(self) -> float | None:
        return min((when for _, when in self._slots.values()), default=None)

    def clock_went_back(self) -> None:
        self._next_look = self._core.now
        self._slots.clear()

    def _look(self) -> None:
        core = self._core
        now = core.clock.believed
        for row in core.groups.all():
            if row.status != GroupStatus.ACTIVE or not row.accepted:
                continue
            lamport, due = core.groups.key_update(row.id)
            if due is None and row.lamport <= lamport < limits.COUNTER:
                continue  # nobody spoke since
            members = sorted(
                (member.device for member in core.groups.members(row.id)),
                key=lambda device, row=row: rank_key(row, device),  # type: ignore[misc]
            )
            if len(members) < 2:
                continue
            within = WITHIN_S * max(1.0, len(members) / MEMBERS_PER_WEEK)
            if due is None or due > now + within:  # the latter: by a clock that was ahead
                due = now + within * (0.5 + _draw(core.device.public, row) / 2)
                core.groups.set_key_update(row.id, lamport, due)
            elif due <= now and self._slots.get(row.id, (b"",))[0] != row.epoch_id:
                self._slots[row.id] = (row.epoch_id, self._slot(row, members))

    def _slot(self, row: GroupRow, members: list[DeviceKey]) -> float:
        """The next time that is ours: members take turns from when the epoch began."""
        core = self._core
        began = min(self._entered(row), core.now) + QUIET_S
        mine = began + SLOT_S * members.index(core.device.public)
        soonest = max(core.now, core.started + AFTER_START_S)
        turns = max(0.0, -(-(soonest - mine) // (SLOT_S * len(members))))
        return mine + turns * SLOT_S * len(members)

    def _entered(self, row: GroupRow) -> float:
        """When this device came to the group's head."""
        commit = self._core.branches.commits(row.id).get(row.head)
        return row.joined if commit is None or commit.entered is None else commit.entered

    def _update(self, row: GroupRow) -> None:
        """Not while a wish waits: its commit comes first, and refreshes somebody too."""
        core = self._core
        if core.intents.open(row.id):
            return
        try:
            with core.undoable():
                self._membership.update_key(commands.UpdateKey(row.id))
        except (Fault, mls_rs.MlsError):
            with suppress(Fault):
                lamport, _ = core.groups.key_update(row.id)
                core.groups.set_key_update(row.id, lamport, core.clock.believed + AGAIN_S)


def _draw(device: DeviceKey, row: GroupRow) -> float:
    """0 to 1, by device and epoch."""
    digest = hashlib.sha256(b"key update" + row.epoch_id + device).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
