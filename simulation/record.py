"""What happened in a run: what the nodes accepted, and what went wrong."""

from __future__ import annotations

from dataclasses import dataclass, field

from simulation.stage import Group, Message, Node


class Violation(Exception):
    """An invariant does not hold."""

    def __init__(self, invariant: str, detail: str, node: Node | None = None) -> None:
        super().__init__(f"{invariant}: {detail}")
        self.invariant = invariant
        self.detail = detail
        self.node = node


@dataclass(frozen=True, slots=True)
class Sent:
    """A message that its author's node accepted."""

    message: Message
    group: Group
    author: Node
    at: float
    members: frozenset[Node]  # as the author saw them


@dataclass
class Record:
    """What happened so far, for the invariants and the report."""

    sent: list[Sent] = field(default_factory=list)
    refused: int = 0  # of what users wanted
    removed: dict[tuple[Group, Node], Node] = field(default_factory=dict)  # and by whom
    ever_removed: set[tuple[Group, Node]] = field(default_factory=set)
    converged: list[float] = field(default_factory=list)  # seconds, of each `converge`
