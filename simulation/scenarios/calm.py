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
