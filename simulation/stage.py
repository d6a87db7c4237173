"""What a scenario is played on. Each tier (world, wire, processes) is one class of this shape.

Everything is synchronous: a call returns when the tier has done it. Virtual tiers let time pass in
`advance` alone; real processes let it pass on the wall. Nodes go by names ("n00", "n01", ...),
groups and messages by their ids in hex.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

Node = str
Group = str
Message = str

INVITED = "invited"  # where a node stands whose user has not accepted


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a node stands in a group, as its own user sees it."""

    epoch: int
    epoch_id: str
    status: str  # "active", "split", "leaving", "left", "removed", "damaged"; see GroupStatus
    members: frozenset[Node]


@dataclass(frozen=True, slots=True)
class Shown:
    """A message that a node showed to its user; own ones are not shown."""

    message: Message
    author: Node
    sequence: int
    text: str


@dataclass(frozen=True, slots=True)
class Owed:
    """An entry of a message's delivery ledger at its author."""

    recipient: Node
    state: str
    reason: str | None


class Stage(Protocol):
    """What users do raises Fault when the node refuses it."""

    features: frozenset[str]
    """What this tier can do beyond the rest: "clones", "withholding", "crash-points", "one-way",
    "disk-full", "skew", "relay" (everybody uses one). A scenario that needs more is refused."""

    # --- time

    @property
    def now(self) -> float:
        """Seconds since the scenario began."""

    def advance(self, until: float) -> None:
        """Lets time pass to `until`, and everything happen that is due by then."""

    # --- nodes and machines

    def start(self, node: Node) -> None:
        """A new account on a new machine, switched on and connected."""

    def acquaint(self, node: Node, others: Sequence[Node]) -> None:
        """`node` and each of the others have each other's cards and bundles."""

    def sleep(self, node: Node) -> None:
        """The lid closes: nothing runs and nothing is reachable until `wake`."""

    def wake(self, node: Node) -> None:
        """It goes on where it was; timers find that time has passed."""

    def crash(self, node: Node, point: str = "between") -> None:
        """All that is in memory is gone, and the node starts again on the same disk.

        `point`: "between" batches, now; "before" or "after" the next commit to disk.
        """

    def fill_disk(self, node: Node, full: bool) -> None:
        """From now on every commit to disk fails, or no more."""

    def set_clock(self, node: Node, ahead_s: float) -> None:
        """The machine's clock is that far ahead of the true time (behind when negative)."""

    def clone(self, node: Node, name: Node) -> None:
        """A stolen copy of the node's disk, with the same keys, asleep: an insider's second hand.

        `wake` starts it. Whoever sends to the device reaches the node that is awake.
        """

    def deafen(self, node: Node) -> None:
        """It acknowledges what arrives from now on, and looks at none of it ("clones")."""

    # --- the network

    def partition(self, sides: Sequence[Collection[Node]]) -> None:
        """Nodes of different sides do not reach each other; a relay is on the first side's."""

    def isolate(self) -> None:
        """No two nodes reach each other; all reach the relay ("relay")."""

    def heal(self) -> None:
        """All reach all again, `cut` or not, and learn of it as of a change of network."""

    def cut(self, source: Node, target: Node) -> None:
        """Nothing from `source` arrives at `target` any more; the other way is as it was."""

    def trouble(
        self, *, latency_s: tuple[float, float], loss: float, duplicates: float, reorder: float
    ) -> None:
        """One-way latency range, and the parts of all parcels (0 to 1) that fare badly."""

    def withhold(self, recipients: Collection[Node]) -> None:
        """The relay keeps to itself what is for these, though it acknowledged it."""

    def release(self) -> None:
        """The relay shows all that it withheld."""

    # --- what users do

    def create_group(self, node: Node, name: str) -> Group: ...

    def invite(
        self, node: Node, group: Group, others: Sequence[Node], *, admin: bool = False
    ) -> None: ...

    def join(self, node: Node, group: Group) -> None:
        """Accepts the invitation; Refused `unknown-group` while there is none."""

    def send(self, node: Node, group: Group, text: str) -> Message: ...

    def remove(self, node: Node, group: Group, other: Node) -> None: ...

    def leave(self, node: Node, group: Group) -> None: ...

    def update_key(self, node: Node, group: Group) -> None: ...

    # --- what can be seen from outside

    def awake(self, node: Node) -> bool: ...

    def standing(self, node: Node, group: Group) -> Standing | None:
        """None when the node does not know the group."""

    def shown(self, node: Node, group: Group) -> list[Shown]:
        """All that was ever shown to this node's user, in the order in which it was."""

    def history(self, node: Node, group: Group) -> list[Shown]:
        """The conversation as it reads now, own messages among it."""

    def ledger(self, node: Node, message: Message) -> list[Owed]: ...

    def note(self, text: str) -> None:
        """A line in the event log."""
