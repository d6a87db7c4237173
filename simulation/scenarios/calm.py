"""Groups in which nothing goes wrong, or little."""

from __future__ import annotations

from simulation.scenario import Sim, scenario


@scenario("quiet-group", nodes=10)
def quiet_group(sim: Sim) -> None:
    """Members talk, and now and then one renews its keys."""
    group = sim.group()
    sim.chatter(group, every=3, during=120)
    for _ in range(4):
        sim.wait(30)
        sim.update_key(sim.rng.choice(sim.nodes), group)
    sim.converge(group, within=30)


@scenario("crash-loop", nodes=6, needs={"crash-points"})
def crash_loop(sim: Sim) -> None:
    """Processes die at any commit to disk, before it or after it, and disks run full."""
    group = sim.group()
    sim.trouble(loss=0.05, duplicates=0.05, reorder=0.2)
    sim.chatter(group, every=4, during=300)
    sim.changes(group, sim.nodes, count=4, during=300)
    points = ("before", "after", "between")
    sim.every(6, lambda: sim.crash(sim.rng.choice(sim.nodes), sim.rng.choice(points)), during=300)
    sim.every(90, lambda: sim.full_disk(sim.rng.choice(sim.nodes), for_s=20), during=240)
    sim.wait(300)
    sim.converge(group, within=60)


@scenario("reader-only", nodes=6)
def reader_only(sim: Sim) -> None:
    """One commits and talks among themselves on each side of a fork; all others only read."""
    group = sim.group()
    one, other = sim.nodes[0], sim.nodes[-1]
    sim.partition([one], sim.nodes[1:])
    sim.update_key(one, group)
    sim.update_key(other, group)
    for _ in range(3):
        sim.wait(20)
        sim.update_key(one, group)
    sim.chatter(group, every=10, during=60, among=[one, other])
    sim.wait(60)
    sim.heal()
    sim.converge(group, within=30)
