"""Small groups that a simpler rule of fork choice breaks, and ours does not: `--rule NAME`.

docs/convergence.md has the table that `python -m benchmarks alternatives` makes of them.
"""

from __future__ import annotations

from simulation.scenario import Sim, scenario
from simulation.stage import Group

SETTLED_S = 20.0  # longer than a member must be on a branch to speak for it first


@scenario("six-apart", nodes=3, fewest=3)
def six_apart(sim: Sim) -> None:
    """One of three commits six times, alone, while the others commit once: it comes back."""
    group = sim.group()
    alone, *others = sim.some(len(sim.nodes))
    sim.partition([alone], others)
    sim.update_key(others[0], group)
    sim.chatter(group, every=5, during=30)
    for _ in range(6):
        sim.update_key(alone, group)
        sim.wait(5)
    sim.heal()
    sim.converge(group, within=30)


@scenario("one-adds-a-third", nodes=2)
def one_adds_a_third(sim: Sim) -> None:
    """Apart, one of two adds a third, and the other renews its keys."""
    group = sim.group(admins=2)
    adder, other = sim.some(2)
    newcomers = sim.more_nodes(1)
    sim.partition([adder, *newcomers], [other])
    sim.add(group, adder, newcomers)
    sim.update_key(other, group)
    sim.chatter(group, every=4, during=SETTLED_S)
    sim.wait(SETTLED_S)
    sim.heal()
    sim.converge(group, within=30)


@scenario("three-siblings", nodes=7, fewest=4, needs={"clones"})
def three_siblings(sim: Sim) -> None:
    """A member shows each third of the group another commit on the same epoch."""
    group = sim.group()
    liar, honest = sim.nodes[-1], sim.nodes[:-1]
    tellers = [liar, sim.clone(liar), sim.clone(liar)]
    sim.partition(*([*honest[third::3], teller] for third, teller in enumerate(tellers)))
    sim.wake(*tellers[1:])
    for teller in tellers:
        sim.update_key(teller, group)
        sim.deafen(teller)
    sim.chatter(group, every=4, during=SETTLED_S, among=honest)
    sim.wait(SETTLED_S)
    sim.heal()
    sim.converge(group, within=30)


@scenario("late-removal", nodes=3, fewest=3, needs={"clones"})
def late_removal(sim: Sim) -> None:
    """One of two admins shows too late that it removed the third member."""
    group = sim.group(admins=2)
    sim.send(sim.nodes[1], group)  # and meets the others by that: it can write to them
    sim.wait(SETTLED_S)
    _late_removal(sim, group)


@scenario("shown-to-one", nodes=3, fewest=3, needs={"clones"})
def shown_to_one(sim: Sim) -> None:
    """As late-removal, and whom it removed does not get to see the removal."""
    group = sim.group(admins=2)
    _late_removal(sim, group)


@scenario("race", nodes=8, fewest=5, needs={"clones"})
def race(sim: Sim) -> None:
    """Whoever is being removed commits at the same moment, and reaches most members first."""
    group = sim.group(admins=2)
    insider, honest = sim.nodes[-1], sim.nodes[:-1]
    racer = sim.clone(insider)
    sim.sleep(insider)
    sim.wake(racer)
    sim.wait(5)
    sim.deafen(racer)
    sim.every(0.5, sim.update_key, racer, group, during=60)
    sim.wait(sim.rng.uniform(5, 6))
    sim.remove(honest[0], group, insider)
    sim.wait(0.5)
    gone = sim.until(lambda: insider not in sim.members(group), within=10)
    sim.claim("removal-holds", gone, f"{insider} is a member ten seconds later")
    sim.sleep(racer)
    sim.send(honest[0], group)
    sim.converge(group, within=60)


def _late_removal(sim: Sim, group: Group) -> None:
    rogue = sim.nodes[1]
    honest = [node for node in sim.nodes if node != rogue]
    twin = sim.clone(rogue)
    sim.sleep(rogue)
    sim.partition(honest, [twin])
    sim.wake(twin)
    sim.remove(twin, group, honest[-1], wanted=False)
    sim.sleep(twin)
    for _ in range(3):
        sim.wait(SETTLED_S)
        sim.update_key(honest[0], group)
    sim.wait(SETTLED_S)
    before = sim.epoch(group)
    sim.heal()
    sim.deafen(twin)
    sim.wake(twin)
    sim.wait(30)
    sim.converge(group, within=60)
    after = sim.epoch(group)
    sim.claim("settled-work-stays", after >= before, f"epoch {after} after {before}")
    missing = set(honest) - sim.members(group)
    sim.claim("settled-members-stay", not missing, f"without {sorted(missing)}")
