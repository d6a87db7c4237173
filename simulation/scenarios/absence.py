"""Members who are away: asleep, removed meanwhile, or kept apart by a relay."""

from __future__ import annotations

from simulation.scenario import Sim, scenario

DAY_S = 86_400.0


@scenario("asleep-ten-days", nodes=8, needs={"relay"}, idle_s=1800)
def asleep_ten_days(sim: Sim) -> None:
    """A laptop sleeps for longer than a relay keeps mail, while the group goes on without it."""
    group = sim.group()
    sleeper, *others = sim.some(len(sim.nodes))
    if sim.rng.random() < 0.5:  # with something of its own that nobody saw
        sim.partition([sleeper], others)
        sim.update_key(sleeper, group)
        sim.send(sleeper, group)
    sim.sleep(sleeper)
    sim.heal()
    sim.chatter(group, every=DAY_S / 4, during=10 * DAY_S, among=others)
    sim.changes(group, others, count=8, during=10 * DAY_S)
    sim.wait(10 * DAY_S)
    sim.wake(sleeper)
    sim.converge(group, within=120)


@scenario("withholding-relay", nodes=8, fewest=4, needs={"relay", "withholding"})
def withholding_relay(sim: Sim) -> None:
    """Members who meet through a relay alone, which keeps what it likes from some for an hour."""
    group = sim.group()
    sim.only_by_relay()
    victims = sim.some(len(sim.nodes) // 3 + 1)
    sim.stage.withhold(victims)
    sim.chatter(group, every=30, during=600)
    sim.changes(group, sim.nodes, count=4, during=600)
    sim.wait(3600)
    sim.stage.release()
    sim.converge(group, within=120)


@scenario("removed-while-offline", nodes=8, fewest=4)
def removed_while_offline(sim: Sim) -> None:
    """A member is removed while alone, where it goes on committing for an hour."""
    group = sim.group(admins=2)
    gone = sim.nodes[-1]
    others = sim.nodes[:-1]
    sim.partition(others, [gone])
    sim.after(5, sim.remove, others[1], group, gone)
    for _ in range(8):
        sim.after(sim.rng.uniform(1, 3000), sim.update_key, gone, group)
    sim.chatter(group, every=200, during=3000)
    sim.changes(group, others, count=3, during=3000)
    sim.wait(3600)
    sim.heal()
    sim.converge(group, within=60)
    sim.claim("removal-holds", gone not in sim.members(group), f"{gone} is a member again")
