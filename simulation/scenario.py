"""The language of scenarios: what happens to a group, in 5 to 30 lines, on any tier.

    @scenario("partition-and-heal", nodes=20)
    def partition_and_heal(sim: Sim) -> None:
        \"\"\"Both halves go on by themselves, and become one group again.\"\"\"
        group = sim.group()
        left, right = sim.halves()
        sim.partition(left, right)
        sim.chatter(group, every=5, during=120)
        sim.changes(group, left, count=3, during=120)
        sim.changes(group, right, count=3, during=120)
        sim.wait(120)
        sim.heal()
        sim.converge(group, within=30)

Whatever a scenario draws comes from `sim.rng`: the seed decides. When it returns, the simulator
heals, wakes and mends all that is left, and checks the invariants (simulation/invariants.py).
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

from schemas.errors import Fault
from simulation.record import Record as Record
from simulation.record import Sent as Sent
from simulation.record import Violation as Violation
from simulation.stage import Group, Message, Node, Stage, Standing

LOOK_S = 0.25  # how often `converge` and `until` look
JOINED_WITHIN_S = 600.0
IDLE_S = 30.0
ACTIVE = "active"


@dataclass(frozen=True, slots=True)
class Scenario:
    name: str
    nodes: int  # by default
    play: Callable[[Sim], None]
    needs: frozenset[str] = frozenset()  # of Stage.features
    fewest: int = 2
    quick: bool = True  # part of `all`: a seed takes a second or two at the default size
    idle_s: float = IDLE_S  # how often an engine with nothing to do looks at the clock

    @property
    def summary(self) -> str:
        return (self.play.__doc__ or "").strip().split("\n")[0]


SCENARIOS: dict[str, Scenario] = {}


def scenario(
    name: str,
    *,
    nodes: int,
    needs: Iterable[str] = (),
    fewest: int = 2,
    quick: bool = True,
    idle_s: float = IDLE_S,
) -> Callable[[Callable[[Sim], None]], Callable[[Sim], None]]:
    """Registers a scenario; its docstring's first line is what `list` shows."""

    def register(play: Callable[[Sim], None]) -> Callable[[Sim], None]:
        SCENARIOS[name] = Scenario(name, nodes, play, frozenset(needs), fewest, quick, idle_s)
        return play

    return register


class Sim:
    """A scenario's hands and eyes."""

    def __init__(self, stage: Stage, nodes: int, seed: int) -> None:
        self.stage = stage
        self.seed = seed
        self.rng = random.Random(f"scenario {seed}")
        self.nodes: list[Node] = []
        self.insiders: set[Node] = set()  # their word counts for nothing in the invariants
        self.groups: list[Group] = []
        self.record = Record()
        self._agenda: list[tuple[float, int, Callable[[], object]]] = []
        self._order = itertools.count()
        self._clones = itertools.count(1)
        self.more_nodes(nodes)

    # --- time

    @property
    def now(self) -> float:
        """Seconds since the beginning."""
        return self.stage.now

    def at(self, when: float, action: Callable[..., object], *args: object) -> None:
        """`action(*args)` happens then (seconds since the beginning)."""
        bound: Callable[[], object] = partial(action, *args)
        heapq.heappush(self._agenda, (max(when, self.now), next(self._order), bound))

    def after(self, seconds: float, action: Callable[..., object], *args: object) -> None:
        self.at(self.now + seconds, action, *args)

    def every(
        self, seconds: float, action: Callable[..., object], *args: object, during: float
    ) -> None:
        """`action(*args)` about that often, for so long; each time is drawn."""
        when = self.now
        end = self.now + during
        while (when := when + self.rng.uniform(0.5, 1.5) * seconds) < end:
            self.at(when, action, *args)

    def wait(self, seconds: float) -> None:
        self.wait_until(self.now + seconds)

    def wait_until(self, when: float) -> None:
        while self._agenda and self._agenda[0][0] <= when:
            due, _, action = heapq.heappop(self._agenda)
            self.stage.advance(due)
            action()
        self.stage.advance(when)

    def until(self, condition: Callable[[], bool], *, within: float) -> bool:
        """Waits until it holds; False when it does not within so many seconds."""
        end = self.now + within
        while not condition():
            if self.now >= end:
                return False
            self.wait(min(LOOK_S, end - self.now))
        return True

    # --- who is there

    def more_nodes(self, count: int) -> list[Node]:
        """New nodes, strangers to all."""
        first = len(self.nodes)
        fresh = [f"n{number:02}" for number in range(first, first + count)]
        for node in fresh:
            self.stage.start(node)
        self.nodes += fresh
        return fresh

    @property
    def honest(self) -> list[Node]:
        return [node for node in self.nodes if node not in self.insiders]

    def halves(self) -> tuple[list[Node], list[Node]]:
        return self.nodes[: len(self.nodes) // 2], self.nodes[len(self.nodes) // 2 :]

    def some(self, count: int, of: Sequence[Node] | None = None) -> list[Node]:
        """That many nodes, drawn."""
        return self.rng.sample(list(self.nodes if of is None else of), count)

    def group(self, members: Sequence[Node] | None = None, *, admins: int = 1) -> Group:
        """A group of these (of all), made by the first and joined by all; the first `admins` of
        them may remove others."""
        founder, *others = self.nodes if members is None else members
        group = self.stage.create_group(founder, "tea")
        self.groups.append(group)
        self.add(group, founder, others[: admins - 1], admin=True)
        self.add(group, founder, others[admins - 1 :])
        everybody = {founder, *others}
        if not self.until(
            lambda: self._together(group) and self._standing_members(group) == everybody,
            within=JOINED_WITHIN_S,
        ):
            raise Violation("everybody-joins", f"not within {JOINED_WITHIN_S:.0f} s")
        self.note("all have joined")
        return group

    def _standing_members(self, group: Group) -> set[Node]:
        return {node for node, at in self.standings(group).items() if at.status == ACTIVE}

    def add(self, group: Group, by: Node, others: Sequence[Node], *, admin: bool = False) -> None:
        """`by` invites them, and they accept as soon as the invitation is there."""
        if not others:
            return
        if self._do(by, partial(self._invite, by, group, others, admin=admin)):
            for node in others:
                self.record.removed.pop((group, node), None)
                self._join_soon(node, group)

    def _invite(self, by: Node, group: Group, others: Sequence[Node], *, admin: bool) -> None:
        self.stage.acquaint(by, others)
        self.stage.invite(by, group, others, admin=admin)

    def _join_soon(self, node: Node, group: Group) -> None:
        here = self.stage.awake(node) and self.stage.standing(node, group) is not None
        if not here or not self._allowed(partial(self.stage.join, node, group)):
            self.after(LOOK_S, self._join_soon, node, group)

    # --- machines and network

    def sleep(self, *nodes: Node) -> None:
        for node in nodes:
            self.stage.sleep(node)

    def wake(self, *nodes: Node) -> None:
        for node in nodes:
            self.stage.wake(node)

    def crash(self, node: Node, point: str = "between") -> None:
        if self.stage.awake(node):
            self.stage.crash(node, point)

    def full_disk(self, node: Node, *, for_s: float) -> None:
        """Nothing can be written there for so long."""
        self.stage.fill_disk(node, True)
        self.after(for_s, self.stage.fill_disk, node, False)

    def set_clock(self, node: Node, ahead_s: float) -> None:
        self.stage.set_clock(node, ahead_s)

    def deafen(self, node: Node) -> None:
        """It heeds nothing that it hears."""
        self.stage.deafen(node)

    def clone(self, node: Node) -> Node:
        """A copy of its disk in an insider's hands, asleep; both count as insiders now."""
        name = f"{node}'{next(self._clones)}"
        self.stage.clone(node, name)
        self.insiders |= {node, name}
        return name

    def partition(self, *sides: Collection[Node]) -> None:
        self.note(f"partition {'|'.join(str(len(side)) for side in sides)}")
        self.stage.partition(sides)

    def cut(self, source: Node, target: Node) -> None:
        """Nothing from `source` arrives at `target` until `heal`."""
        self.stage.cut(source, target)

    def repair(self) -> None:
        """Whatever is broken is mended: the network, clocks, disks, and everybody is awake."""
        self.note("everything is mended")
        self.trouble()
        for node in self.honest:
            self.stage.fill_disk(node, False)
            self.stage.set_clock(node, 0.0)
        self.heal()
        self.stage.release()
        self.sleep(*self.insiders)
        self.wake(*self.honest)
        self.until(lambda: all(self.stage.awake(node) for node in self.honest), within=60)

    def only_by_relay(self) -> None:
        """Nobody reaches anybody but the relay."""
        self.note("only by relay")
        self.stage.isolate()

    def heal(self) -> None:
        self.note("healed")
        self.stage.heal()

    def trouble(
        self,
        *,
        latency: tuple[float, float] = (0.01, 0.1),
        loss: float = 0.0,
        duplicates: float = 0.0,
        reorder: float = 0.0,
    ) -> None:
        self.stage.trouble(latency_s=latency, loss=loss, duplicates=duplicates, reorder=reorder)

    def note(self, text: str) -> None:
        self.stage.note(text)

    # --- what users do; None when the node refuses it, which is in its rights

    def send(self, node: Node, group: Group, text: str = "") -> Message | None:
        if not self.stage.awake(node):
            return None
        standing = self.stage.standing(node, group)
        text = text or f"{node} at {self.now:.1f}"
        try:
            message = self.stage.send(node, group, text)
        except Fault as fault:
            self._note_refused(fault)
            return None
        if standing is not None:
            others = standing.members - {node}
            self.record.sent.append(Sent(message, group, node, self.now, others))
        return message

    def update_key(self, node: Node, group: Group) -> bool:
        return self._do(node, lambda: self.stage.update_key(node, group))

    def leave(self, node: Node, group: Group) -> bool:
        gone = self._do(node, lambda: self.stage.leave(node, group))
        return self._note_removed(group, node, node) if gone else False

    def remove(self, node: Node, group: Group, other: Node, *, wanted: bool = True) -> bool:
        """`wanted`: it must hold in the end."""
        gone = self._do(node, lambda: self.stage.remove(node, group, other))
        if gone and not wanted:
            self.record.ever_removed.add((group, other))
        return self._note_removed(group, other, node) if gone and wanted else gone

    def _note_removed(self, group: Group, node: Node, by: Node) -> bool:
        self.record.removed[group, node] = by
        self.record.ever_removed.add((group, node))
        return True

    def chatter(
        self,
        group: Group,
        *,
        every: float,
        during: float,
        among: Sequence[Node] | None = None,
    ) -> None:
        """Somebody says something about that often."""
        self.every(
            every,
            lambda: self.send(self.rng.choice(list(among or self.nodes)), group),
            during=during,
        )

    def changes(self, group: Group, among: Sequence[Node], *, count: int, during: float) -> None:
        """That many of them renew their keys, each a commit, at drawn times."""
        for _ in range(count):
            node = self.rng.choice(list(among))
            when = self.rng.uniform(0, during)
            self.after(when, self.update_key, node, group)

    def _do(self, node: Node, action: Callable[[], None]) -> bool:
        return self.stage.awake(node) and self._allowed(action)

    def _allowed(self, action: Callable[[], None]) -> bool:
        try:
            action()
        except Fault as fault:
            self._note_refused(fault)
            return False
        return True

    def _note_refused(self, fault: Fault) -> None:
        self.record.refused += 1
        self.note(f"refused: {fault.code}")

    # --- what must hold here

    def claim(self, invariant: str, holds: bool, detail: str) -> None:
        """Raises Violation unless it holds."""
        if not holds:
            raise Violation(invariant, detail)

    def settle_removals(self, group: Group) -> None:
        """Of removals that exclude each other, those that came about are to hold."""
        members = self.members(group)
        for key in list(self.record.removed):
            if key[0] == group and key[1] in members:
                del self.record.removed[key]

    # --- what can be seen

    def members(self, group: Group) -> set[Node]:
        """As the honest who are awake and active see them; all of those, while they differ."""
        active = [at for at in self.standings(group).values() if at.status == ACTIVE]
        return set().union(*(at.members for at in active))

    def epoch(self, group: Group) -> int:
        """The highest that an honest node stands at."""
        return max((at.epoch for at in self.standings(group).values()), default=0)

    def standings(self, group: Group) -> dict[Node, Standing]:
        """Of the honest nodes that are awake and know the group."""
        found = {}
        for node in self.honest:
            if self.stage.awake(node):
                standing = self.stage.standing(node, group)
                if standing is not None:
                    found[node] = standing
        return found

    def _together(self, group: Group) -> bool:
        standings = self.standings(group)
        active = {node: at for node, at in standings.items() if at.status == ACTIVE}
        split = [at for at in standings.values() if at.status in ("split", "leaving", "damaged")]
        if split or len({at.epoch_id for at in active.values()}) > 1:
            return False
        members = next(iter(active.values())).members if active else frozenset()
        here = {node for node in self.honest if self.stage.awake(node)}
        return members & here == set(active)

    def converge(self, group: Group | None = None, *, within: float) -> float:
        """Waits until the honest members who are awake are in one epoch; answers the seconds.

        Raises Violation `one-epoch` when it takes longer.
        """
        seconds = self.agree(self.groups if group is None else [group], within=within)
        self.record.converged.append(seconds)
        return seconds

    def agree(self, groups: Sequence[Group], *, within: float) -> float:
        """As `converge`, and no figure of the report."""
        begun = self.now
        if not self.until(lambda: all(self._together(each) for each in groups), within=within):
            raise Violation("one-epoch", f"not within {within:.0f} s: {self._split(groups)}")
        return self.now - begun

    def _split(self, groups: Sequence[Group]) -> str:
        parts = []
        for group in groups:
            where: dict[str, list[Node]] = {}
            for node, at in self.standings(group).items():
                where.setdefault(f"{at.status} {at.epoch} {at.epoch_id[:6]}", []).append(node)
            parts += [f"{place}: {' '.join(nodes)}" for place, nodes in sorted(where.items())]
        return "; ".join(parts)
