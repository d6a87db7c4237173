"""What the engines of a world did, and the invariants that can be held against it at once."""

from __future__ import annotations

from typing import Any, Protocol

import apsw

from node.engine import values as v
from node.engine.catch_up import CIPHERTEXTS_OF_A_GROUP, TRIM_EVERY
from node.engine.engine import Engine
from node.engine.groups.commits import FORK_BYTES, FORK_COMMITS
from node.engine.groups.intents import OPEN_WISHES
from schemas import limits
from schemas.ids import DeviceKey, EpochId, GroupId, MessageId
from simulation.scenario import Violation


class Tier(Protocol):
    """Who collects the evidence of all machines."""

    evidence: Evidence

    def note_epoch(self, machine: Any, group: GroupId, epoch: int, name: EpochId, /) -> None: ...


class Machine(Protocol):
    """One node of whatever tier runs real engines in this process."""

    name: str
    device: DeviceKey
    engine: Engine
    disk: apsw.Connection

    @property
    def world(self) -> Tier: ...


class Evidence:
    """Each method raises Violation. `stolen`: devices whose disk was copied; they are not held to
    anything, and may read what a copy of theirs may."""

    def __init__(self) -> None:
        self.stolen: set[DeviceKey] = set()
        self._authenticators: dict[tuple[GroupId, EpochId], tuple[bytes, str]] = {}
        self._rosters: dict[tuple[GroupId, EpochId], frozenset[bytes]] = {}
        self._generations: set[tuple[GroupId, EpochId, DeviceKey, int]] = set()
        self._readers: dict[MessageId, set[bytes]] = {}
        self._shown: set[tuple[str, MessageId]] = set()

    def entered(
        self,
        machine: Machine,
        group: GroupId,
        epoch: EpochId,
        authenticator: bytes,
        members: frozenset[bytes],
    ) -> None:
        """Members of one epoch agree on its authenticator, and on who is a member."""
        first, name = self._authenticators.setdefault((group, epoch), (authenticator, machine.name))
        if first != authenticator:
            raise Violation(
                "one-authenticator",
                f"{machine.name} and {name} differ on epoch {epoch.hex()[:8]}",
                machine.name,
            )
        if self._rosters.setdefault((group, epoch), members) != members:
            raise Violation(
                "one-roster",
                f"{machine.name} and {name} differ on the members of {epoch.hex()[:8]}",
                machine.name,
            )

    def sealed(
        self, machine: Machine, group: GroupId, epoch: EpochId, generation: int, message: MessageId
    ) -> None:
        """No generation is used twice."""
        readers = self._readers.setdefault(message, {machine.device})
        readers |= self._rosters.get((group, epoch), frozenset())
        if machine.device in self.stolen:
            return
        used = (group, epoch, machine.device, generation)
        if used in self._generations:
            raise Violation(
                "generation-once",
                f"{machine.name} sealed twice under {generation} in {epoch.hex()[:8]}",
                machine.name,
            )
        self._generations.add(used)

    def shown(self, machine: Machine, message: v.MessageView) -> None:
        """Each message is shown once, and to nobody who was not a member when it was sealed."""
        if machine.device in self.stolen:
            return
        key = (machine.name, message.message)
        if key in self._shown:
            raise Violation("shown-once", f"{message.message.hex()[:8]} again", machine.name)
        self._shown.add(key)
        readers = self._readers.get(message.message)
        if readers is None:
            raise Violation(
                "nobody-sent-it", f"{message.message.hex()[:8]} was never sealed", machine.name
            )
        if machine.device not in readers:
            raise Violation(
                "removed-reads-nothing",
                f"{machine.name} reads {message.message.hex()[:8]} of {message.sender_name}",
                machine.name,
            )


def queues_within_caps(machine: Machine) -> None:
    """Every queue of a node is within its cap. Raises Violation."""
    for what, sql, cap in _CAPS:
        rows = machine.disk.execute(sql).fetchall()
        for (found,) in rows:
            if isinstance(found, int) and found > cap:
                raise Violation("within-caps", f"{found} {what}; the cap is {cap}", machine.name)


# (what, a query of one number a row, the most that it may be)
_CAPS = (
    (
        "early parcels of a group",
        "SELECT count(*) FROM future GROUP BY group_id",
        limits.FUTURE_MESSAGES,
    ),
    (
        "bytes of early parcels",
        "SELECT sum(length(body)) FROM future GROUP BY group_id",
        limits.FUTURE_BYTES,
    ),
    (
        "snapshots of a group",
        "SELECT count(*) FROM snapshots GROUP BY group_id",
        limits.SNAPSHOT_EPOCHS,
    ),
    (
        "bytes of snapshots",
        "SELECT sum(bytes) FROM snapshots GROUP BY group_id",
        limits.SNAPSHOT_BYTES,
    ),
    (
        "commits that were never entered",
        "SELECT count(*) FROM commits WHERE entered IS NULL GROUP BY group_id",
        FORK_COMMITS + 1,  # and the root
    ),
    (
        "bytes of commits that were never entered",
        "SELECT sum(length(mls)) FROM commits WHERE entered IS NULL GROUP BY group_id",
        FORK_BYTES,
    ),
    (
        "open wishes of one device",
        "SELECT count(*) FROM intents WHERE done = 0 GROUP BY group_id, author",
        OPEN_WISHES,
    ),
    (
        "kept ciphertexts of a group, in bytes",
        "SELECT sum(length(mls)) FROM ciphertexts GROUP BY group_id",
        CIPHERTEXTS_OF_A_GROUP + TRIM_EVERY,
    ),
)
