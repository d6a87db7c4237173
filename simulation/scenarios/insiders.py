"""Members who cheat: an insider's device has copies of its disk, and acts where it pays.

What an insider says counts for nothing in the invariants; all honest members must agree.
"""

from __future__ import annotations

from simulation.scenario import Sim, scenario


@scenario("equivocating-member", nodes=9, fewest=5, needs={"clones"})
def equivocating_member(sim: Sim) -> None:
    """A member tells each side of a partition another story, under the same numbers."""
    group = sim.group()
    liar = sim.nodes[-1]
    twin = sim.clone(liar)
    left, right = sim.nodes[: len(sim.nodes) // 2], sim.nodes[len(sim.nodes) // 2 : -1]
    sim.partition([*left, liar], [*right, twin])
    sim.wake(twin)
    sim.chatter(group, every=5, during=60, among=[*left, *right])
    for teller in (liar, twin):
        sim.every(15, sim.update_key, teller, group, during=60)
    sim.changes(group, [*left, *right], count=3, during=60)
    sim.wait(60)
    sim.sleep(twin)
    sim.heal()
    sim.converge(group, within=60)


@scenario("insider-outvotes", nodes=10, fewest=5, needs={"clones"})
def insider_outvotes(sim: Sim) -> None:
    """Removed, an insider answers with a sibling at once, and commits on alone every two seconds;
    it must not outvote the others by speed."""
    group = sim.group(admins=2)
    insider, honest = sim.nodes[-1], sim.nodes[:-1]
    racer = sim.clone(insider)
    sim.sleep(insider)
    sim.deafen(racer)
    sim.chatter(group, every=3, during=60, among=honest)
    sim.remove(honest[0], group, insider)
    sim.after(sim.rng.uniform(0, 0.3), sim.wake, racer)
    sim.every(2, sim.update_key, racer, group, during=120)
    sim.changes(group, honest, count=3, during=100)
    sim.wait(140)
    sim.sleep(racer)
    sim.converge(group, within=60)
    sim.claim("removal-holds", insider not in sim.members(group), f"{insider} is back")


@scenario("late-release", nodes=10, fewest=5, needs={"clones"})
def late_release(sim: Sim) -> None:
    """An admin withholds a commit on an old epoch, and shows it after honest ones are settled."""
    group = sim.group(admins=2)
    insider = sim.nodes[1]
    honest = [node for node in sim.nodes if node != insider]
    twin = sim.clone(insider)
    depth = sim.rng.randint(2, 6)
    sim.partition(sim.nodes, [twin])
    sim.wake(twin)
    if sim.rng.random() < 0.5:
        sim.remove(twin, group, honest[-1], wanted=False)
    else:
        sim.update_key(twin, group)
    sim.sleep(twin)
    sim.sleep(insider)
    sim.chatter(group, every=4, during=20.0 * depth, among=honest)
    for _ in range(depth):
        sim.wait(20)
        sim.update_key(sim.rng.choice(honest), group)
    before = sim.epoch(group)
    sim.heal()
    sim.deafen(twin)
    sim.wake(twin)
    sim.wait(30)
    sim.converge(group, within=60)
    after = sim.epoch(group)
    sim.claim("settled-work-stays", after >= before, f"epoch {after} after {before}")
    sim.claim(
        "settled-members-stay", set(honest) <= sim.members(group), f"{sorted(sim.members(group))}"
    )
