"""Commits at once: in a connected group, in halves, by twos and threes, while people join."""

from __future__ import annotations

from simulation.scenario import Sim, scenario


@scenario("commit-storm", nodes=12)
def commit_storm(sim: Sim) -> None:
    """Everybody renews their keys within half a second."""
    group = sim.group()
    sim.chatter(group, every=1, during=20)
    for node in sim.nodes:
        sim.after(sim.rng.uniform(0, 0.5), sim.update_key, node, group)
    sim.wait(20)
    sim.converge(group, within=60)


@scenario("two-at-once", nodes=10)
def two_at_once(sim: Sim) -> None:
    """Two of a connected group commit at the same time: one epoch within two seconds."""
    group = sim.group()
    first, second = sim.some(2)
    sim.chatter(group, every=1, during=8)
    sim.update_key(first, group)
    sim.after(sim.rng.uniform(0, 0.2), sim.update_key, second, group)
    sim.wait(0.3)
    sim.converge(group, within=10)
    sim.wait(10)


@scenario("partition-and-heal", nodes=20)
def partition_and_heal(sim: Sim) -> None:
    """Both halves go on by themselves, and become one group again."""
    group = sim.group()
    left, right = sim.halves()
    sim.partition(left, right)
    sim.chatter(group, every=5, during=120)
    sim.changes(group, left, count=3, during=120)
    sim.changes(group, right, count=3, during=120)
    sim.wait(120)
    sim.heal()
    sim.converge(group, within=30)


@scenario("two-members", nodes=2)
def two_members(sim: Sim) -> None:
    """Two members, apart, each commit and write; then they meet."""
    group = sim.group(admins=2)
    _few_apart(sim, group)


@scenario("three-members", nodes=3, fewest=3)
def three_members(sim: Sim) -> None:
    """One of three is apart, and all commit; then they meet."""
    group = sim.group()
    _few_apart(sim, group)


def _few_apart(sim: Sim, group: str) -> None:
    for _ in range(3):
        alone = sim.rng.choice(sim.nodes)
        sim.partition([alone], [node for node in sim.nodes if node != alone])
        sim.chatter(group, every=8, during=60)
        sim.changes(group, sim.nodes, count=sim.rng.randint(2, 6), during=60)
        sim.wait(60)
        sim.heal()
        sim.converge(group, within=30)


@scenario("mutual-removal", nodes=5, fewest=3)
def mutual_removal(sim: Sim) -> None:
    """Two admins remove each other at the same moment; at most one is gone in the end."""
    group = sim.group(admins=2)
    first, second = sim.nodes[:2]
    sim.chatter(group, every=2, during=20, among=sim.nodes[2:])
    sim.remove(first, group, second)
    sim.after(sim.rng.uniform(0, 0.3), sim.remove, second, group, first)
    sim.wait(20)
    sim.converge(group, within=30)
    left = sim.members(group)
    sim.claim("one-of-them-stays", bool({first, second} & left), f"members: {sorted(left)}")
    sim.settle_removals(group)


@scenario("joins-during-a-fork", nodes=8, fewest=4)
def joins_during_a_fork(sim: Sim) -> None:
    """Both halves add people during a fork; who joined on the losing side stays, and reads."""
    group = sim.group()
    left, right = sim.halves()
    newcomers = sim.more_nodes(4)
    sim.partition([*left, *newcomers[:2]], [*right, *newcomers[2:]])
    adders = (sim.rng.choice(left), sim.rng.choice(right))
    for by, fresh in zip(adders, (newcomers[:2], newcomers[2:]), strict=True):
        for node in fresh:
            when = sim.rng.uniform(1, 40)
            sim.after(when, sim.add, group, by, [node])
    sim.chatter(group, every=4, during=90, among=[*left, *right])
    sim.wait(50)
    sim.chatter(group, every=6, during=40, among=newcomers)
    sim.wait(40)
    sim.heal()
    sim.converge(group, within=60)
    sim.wait(10)  # all may agree for a moment before what was lost is made again
    missing = set(newcomers) - sim.members(group)
    sim.claim("who-joined-stays", not missing, f"without {sorted(missing)}")
