"""Many devices."""

from __future__ import annotations

from simulation.scenario import Sim, scenario


@scenario("thousand-devices", nodes=1000, quick=False)
def thousand_devices(sim: Sim) -> None:
    """A group far above the product's limit: some talk, two commit at once."""
    group = sim.group()
    talkers = sim.some(5)
    for node in talkers:
        sim.send(node, group)
    first, second = sim.some(2)
    sim.update_key(first, group)
    sim.update_key(second, group)
    sim.wait(30)
    sim.converge(group, within=300)
