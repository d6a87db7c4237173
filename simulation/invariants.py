"""What must hold at the end of every scenario, on every tier; each is one small function.

The invariants that are checked throughout, over the engine's insides, are those of the tier
(simulation/world/evidence.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from simulation.scenario import ACTIVE, Sent, Sim, Violation
from simulation.stage import Group, Node

UNDERWAY = frozenset({"queued", "sent", "held", "carried"})
ARRIVED = frozenset({"delivered", "read"})


def nothing_lost(sim: Sim) -> None:
    """Whatever a node accepted is shown at every member who stayed; when it is not, the ledger
    says so, with a reason that the user can do something about."""
    shown = _shown(sim)
    for sent, recipient, state, reason in _entries(sim):
        if sent.message in shown.get((recipient, sent.group), ()):
            continue
        where = f"{sent.message[:8]} of {sent.author} ({sent.at:.1f} s) at {recipient}"
        if state in ARRIVED:
            raise Violation("nothing-lost", f"{where} is {state}, and was not shown", recipient)
        if state in UNDERWAY:
            raise Violation("nothing-lost", f"{where} is still {state} ({reason})", recipient)
        if not reason:
            raise Violation("nothing-lost", f"{where} is {state} without a reason", recipient)
        if (sent.group, recipient) not in sim.record.ever_removed:
            raise Violation("nothing-lost", f"{where} is {state} ({reason})", recipient)


def everybody_owed(sim: Sim) -> None:
    """Whoever was a member when a message was accepted has an entry in its ledger."""
    for sent in sim.record.sent:
        if sent.author in sim.insiders:
            continue
        owed = {entry.recipient for entry in sim.stage.ledger(sent.author, sent.message)}
        missing = sent.members - owed - sim.insiders
        if missing:
            raise Violation(
                "everybody-owed",
                f"{sent.message[:8]} of {sent.author} owes nothing to {' '.join(sorted(missing))}",
                sent.author,
            )


def shown_once(sim: Sim) -> None:
    """No message is shown twice."""
    for node, group in _places(sim):
        seen: set[str] = set()
        for message in sim.stage.shown(node, group):
            if message.message in seen:
                raise Violation("shown-once", f"{message.message[:8]} again", node)
            seen.add(message.message)


def authors_in_order(sim: Sim) -> None:
    """A conversation reads every author's messages in the order in which they were written."""
    for node, group in _places(sim):
        last: dict[Node, int] = {}
        for message in sim.stage.history(node, group):
            if message.author in sim.insiders:
                continue
            if message.sequence <= last.get(message.author, 0):
                raise Violation(
                    "authors-in-order",
                    f"{message.author}'s {message.sequence} after {last[message.author]}",
                    node,
                )
            last[message.author] = message.sequence


def one_order(sim: Sim) -> None:
    """What two members both have reads in the same order at both."""
    for group in sim.groups:
        places = [node for node, where in _places(sim) if where == group]
        orders = [[m.message for m in sim.stage.history(node, group)] for node in places]
        for node, order in zip(places[1:], orders[1:], strict=True):
            common = set(order) & set(orders[0])
            if [m for m in order if m in common] != [m for m in orders[0] if m in common]:
                raise Violation("one-order", f"{node} and {places[0]} read another order", node)


def removed_stay_out(sim: Sim) -> None:
    """Whoever was removed, or left, and was not invited again is no member in the end."""
    for removed, other in _still_in(sim):
        raise Violation("removed-stay-out", f"{other} still has {removed} as a member", other)


AT_THE_END: tuple[Callable[[Sim], None], ...] = (
    everybody_owed,
    shown_once,
    authors_in_order,
    one_order,
    removed_stay_out,
    nothing_lost,
)


def settled(sim: Sim) -> bool:
    """Everything that is not given up is shown at everybody who stayed, and wishes that were lost
    with a branch have been granted again."""
    shown = _shown(sim)
    on_the_way = any(
        state in UNDERWAY | ARRIVED and sent.message not in shown.get((recipient, sent.group), ())
        for sent, recipient, state, _ in _entries(sim)
    )
    return not on_the_way and next(_still_in(sim), None) is None


def _still_in(sim: Sim) -> Iterator[tuple[Node, Node]]:
    """(who was removed, who has not heard of it).

    What somebody wanted who was removed at the same time, by a branch that won, is void.
    """
    for (group, node), by in sim.record.removed.items():
        if by != node and by not in _members(sim, group):
            continue
        for other, at in sim.standings(group).items():
            if at.status == ACTIVE and (node in at.members or other == node):
                yield node, other


def _entries(sim: Sim) -> Iterator[tuple[Sent, Node, str, str | None]]:
    """What honest authors owe to honest members of the end."""
    members = {group: _members(sim, group) for group in sim.groups}
    for sent in sim.record.sent:
        if sent.author in sim.insiders:
            continue
        if sent.author not in members[sent.group]:
            continue  # who is out cannot make good any more; removed, it owes nothing
        for entry in sim.stage.ledger(sent.author, sent.message):
            if entry.recipient in members[sent.group]:
                yield sent, entry.recipient, entry.state, entry.reason


def _members(sim: Sim, group: Group) -> set[Node]:
    return {node for node, at in sim.standings(group).items() if at.status == ACTIVE}


def _places(sim: Sim) -> Iterator[tuple[Node, Group]]:
    for group in sim.groups:
        for node in sim.honest:
            if sim.stage.standing(node, group) is not None:
                yield node, group


def _shown(sim: Sim) -> dict[tuple[Node, Group], set[str]]:
    return {
        (node, group): {message.message for message in sim.stage.shown(node, group)}
        for node, group in _places(sim)
    }
