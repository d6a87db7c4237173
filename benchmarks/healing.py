"""How long a forked group takes to be one again, and what that costs: engines on a model network.

Network time is virtual: links take 10 to 100 ms, a changed network is noticed within a second. The
bytes are those of all envelopes and summaries from the moment of the commits (after a partition: of
its end) until a minute later, per member; the model of MLS sends as many as mls-rs does. Every run
ends with the simulator's invariants: nothing lost, nothing shown twice, one order.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

from benchmarks.report import Row
from node.engine import commands as c
from node.engine import values as v
from node.engine.engine import BatchResult
from node.engine.serving import LATELY_S
from schemas.group_records import CommitHeader
from schemas.ids import CommitHash
from schemas.parcels import CommitContent, ParcelBody
from simulation.invariants import AT_THE_END, settled
from simulation.many import quieten
from simulation.scenario import Sim
from simulation.stage import Group
from simulation.world.machine import Machine
from simulation.world.tuning import tuned
from simulation.world.world import World

AFTER_S: Final = 60.0  # wishes that lost are carried out again within that
DELIVERED_WITHIN_S: Final = 6 * 3600.0
KIB: Final = 1024.0
MINUTE_S, HOUR_S, DAY_S = 60.0, 3600.0, 86_400.0
SEEDS: Final = 10
FEW: Final = 2  # of what takes a minute each


class CountingWorld(World):
    """Counts what is sent, by kind of content, and the commits that were made."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.sent: Counter[str] = Counter()  # bytes
        self.commits: set[CommitHash] = set()
        self._kind = ""
        seal = self.seal

        def counted(key: bytes, padded: bytes) -> bytes:
            sealed = seal(key, padded)
            self.sent[self._kind] += len(sealed)
            return sealed

        self.seal = counted

    def tell_sent(self, machine: Machine, item: v.OutboxItem) -> None:
        super().tell_sent(machine, item)
        content = ParcelBody.decode(item.body).content
        self._kind = type(content).__name__
        if isinstance(content, CommitContent):
            self.commits.add(CommitHeader.decode(content.header.payload).commit)

    def note_batch(
        self, machine: Machine, batch: Sequence[c.Command[Any]], result: BatchResult
    ) -> None:
        super().note_batch(machine, batch, result)
        for effect in result.effects:
            if isinstance(effect, v.SummaryReady):
                self.sent["Summary"] += len(effect.summary)


@dataclass(frozen=True, slots=True)
class Healed:
    one_epoch_s: float  # the first moment at which all members were in one epoch
    last_epoch_s: float  # the last one was entered by everybody: lost wishes were made good
    kib: float  # per member
    commits: int  # made in all since the beginning of what is measured
    undone: int


def storm(nodes: int, committers: int, seed: int) -> Healed:
    """So many commit at the same moment, in a group that is connected."""

    def play(sim: Sim, group: Group) -> None:
        for node in sim.some(committers):
            sim.update_key(node, group)

    return _measured(nodes, seed, play, lambda sim, group: None)


def parted(nodes: int, length_s: float, changes: int, seed: int) -> Healed:
    """The halves are apart for so long; each makes so many commits and writes as many messages."""

    def before(sim: Sim, group: Group) -> None:
        halves = sim.halves()
        sim.partition(*halves)
        for half in halves:
            sim.changes(group, half, count=changes, during=length_s)
            for _ in range(changes):
                sim.after(sim.rng.uniform(0, length_s), sim.send, sim.rng.choice(half), group)
        sim.wait(length_s)

    return _measured(nodes, seed, lambda sim, group: sim.heal(), before)


def _measured(
    nodes: int,
    seed: int,
    play: Callable[[Sim, Group], None],
    before: Callable[[Sim, Group], None],
) -> Healed:
    quieten()
    with tuned(idle_s=1800.0, devices=nodes):
        world = CountingWorld(seed)
        sim = Sim(world, nodes, seed)
        group = sim.group()
        sim.wait(LATELY_S + MINUTE_S)  # who meets newcomers introduces everybody to them: not here
        start = sim.epoch(group)
        world.commits.clear()
        before(sim, group)
        world.sent.clear()
        begun = sim.now
        play(sim, group)
        sim.wait(AFTER_S)
        sent = world.sent.total()
        sim.agree([group], within=DELIVERED_WITHIN_S)
        if not sim.until(lambda: settled(sim), within=DELIVERED_WITHIN_S):
            raise AssertionError(f"{nodes} members, seed {seed}: something is under way for ever")
        for invariant in AT_THE_END:
            invariant(sim)
        together = list(_moments_of_one_epoch(world, begun))
        gained = sim.epoch(group) - start
        return Healed(
            together[0] - begun,
            together[-1] - begun,
            sent / nodes / KIB,
            len(world.commits),
            len(world.commits) - gained,
        )


def _moments_of_one_epoch(world: World, begun: float) -> Iterator[float]:
    """When the last member came to where all the others were, since `begun`."""
    entered = sorted(
        (when, node, name) for node, line in world.timeline.items() for when, _, name in line
    )
    where: dict[str, str] = {}
    for when, node, name in entered:
        where[node] = name
        if when >= begun and len(where) == len(world.timeline) and len(set(where.values())) == 1:
            yield when


# --- the tables


@dataclass(frozen=True, slots=True)
class Case:
    """One place of a table, and of the plot: `series` at `where`."""

    series: str
    where: str
    run: Callable[[int], Healed]  # of a seed
    seeds: int
    target_s: float | None = None

    @property
    def what(self) -> str:
        return f"{self.series}: {self.where}"


SIZES: Final = "2 commits at once, members"
COMMITTERS: Final = "50 members, commits at once"
PARTITIONS: Final = "50 members in halves for"
HALVES: Final = "halves for an hour, members"


def cases(quick: bool) -> list[Case]:
    ten = Case(SIZES, "10", partial(storm, 10, 2), SEEDS, 2.0)
    if quick:
        return [replace(ten, seeds=2), Case(HALVES, "10", partial(parted, 10, HOUR_S, 10), 1)]
    return [
        Case(SIZES, "3", partial(storm, 3, 2), SEEDS),
        ten,
        Case(SIZES, "50", partial(storm, 50, 2), FEW),
        Case(SIZES, "250", partial(storm, 250, 2), 1),
        *(
            Case(COMMITTERS, str(committers), partial(storm, 50, committers), FEW)
            for committers in (1, 2, 5, 10, 50)
        ),
        Case(PARTITIONS, "a minute", partial(parted, 50, MINUTE_S, 10), FEW),
        Case(PARTITIONS, "an hour", partial(parted, 50, HOUR_S, 10), FEW),
        Case(PARTITIONS, "a day", partial(parted, 50, DAY_S, 10), FEW, 30.0),
        Case(HALVES, "3", partial(parted, 3, HOUR_S, 10), SEEDS),
        Case(HALVES, "10", partial(parted, 10, HOUR_S, 10), SEEDS),
    ]


def measure(case: Case) -> Row:
    """The slowest of its seeds counts."""
    found = [case.run(seed) for seed in range(case.seeds)]
    seconds = [each.one_epoch_s for each in found]
    median, slowest = statistics.median(seconds), max(seconds)
    kib = statistics.mean(each.kib for each in found)
    commits = statistics.mean(each.commits for each in found)
    undone = statistics.mean(each.undone for each in found)
    seeds = "1 seed" if case.seeds == 1 else f"{case.seeds} seeds"
    return Row(
        case.what,
        slowest,
        "s",
        target=case.target_s,
        of="value",
        at_least=False,
        note=f"median {median:.2f} s; {commits:.3g} commits, {undone:.3g} undone; "
        f"{kib:,.0f} KiB a member; {seeds}",
        data={
            "series": case.series,
            "where": case.where,
            "median_s": median,
            "slowest_s": slowest,
            "kib": kib,
        },
    )


def rows(quick: bool) -> list[Row]:
    return [measure(case) for case in cases(quick)]
