"""The scenarios of real processes: a network's usual troubles, in seconds of the wall's clock."""

from __future__ import annotations

from typing import Final

from node.demo.processes import StepFailed
from simulation.processes.stage import ProcessStage
from simulation.scenario import Scenario, Sim, Violation

LATENCY_S: Final = (0.005, 0.015)  # of a frame, one way
LOSS: Final = 0.01
PARTED_S: Final = 4.0
ASLEEP_S: Final = 6.0
CONVERGES_S: Final = 30.0
ARRIVES_S: Final = 20.0
TOLD_S: Final = 5.0


def partition_and_heal(sim: Sim) -> None:
    """Laptops on a bad network: one is cut off from the others, and both sides go on."""
    *others, cy = sim.nodes
    ada = others[0]
    sim.trouble(latency=LATENCY_S, loss=LOSS)
    group = sim.group(sim.nodes)
    _all_talk(sim, group)
    sim.partition(others, [cy])
    sim.update_key(ada, group)
    sim.update_key(cy, group)
    _all_talk(sim, group)
    sim.wait(PARTED_S)
    sim.update_key(cy, group)
    _all_talk(sim, group)
    sim.heal()
    sim.converge(group, within=CONVERGES_S)
    _all_are_told(sim, group)
    _all_talk(sim, group)


def laptop_asleep(sim: Sim) -> None:
    """A lid closes right after its owner changed the group; the others change it meanwhile."""
    *others, cy = sim.nodes
    ada, bob = others[:2]
    sim.trouble(latency=LATENCY_S)
    group = sim.group(sim.nodes)
    _all_talk(sim, group)
    sim.partition(others, [cy])  # the radio is off before the lid is closed
    sim.update_key(cy, group)
    sim.send(cy, group)
    sim.sleep(cy)
    sim.heal()
    sim.update_key(ada, group)
    sim.send(ada, group)
    sim.send(bob, group)
    sim.wait(ASLEEP_S)
    sim.wake(cy)
    sim.converge(group, within=CONVERGES_S)
    _all_are_told(sim, group)
    _all_talk(sim, group)


def relay_withholds(sim: Sim) -> None:
    """Two who cannot reach each other, and a relay that keeps what it took: a third carries it."""
    ada, *_, cy = sim.nodes
    sim.trouble(latency=LATENCY_S)
    group = sim.group(sim.nodes)
    _all_talk(sim, group)
    sim.stage.withhold([cy])
    sim.stage.cut(ada, cy)
    sim.stage.cut(cy, ada)
    message = sim.send(ada, group)
    sim.update_key(ada, group)
    sim.send(ada, group)
    if not sim.until(lambda: _is_shown(sim, message), within=ARRIVES_S):
        raise Violation("carried-by-others", f"not within {ARRIVES_S:.0f} s", cy)
    sim.converge(group, within=CONVERGES_S)
    _all_talk(sim, group)
    sim.stage.release()  # late, what everybody has already


def _all_are_told(sim: Sim, group: str) -> None:
    """Whoever heard that the group was split, and somebody did, hears that it is healed, and that
    nothing was lost."""
    assert isinstance(sim.stage, ProcessStage)
    heard = 0
    for node in sim.nodes:
        try:
            told = sim.stage.healed(node, TOLD_S)
        except StepFailed as failed:
            raise Violation("users-told", str(failed), node) from None
        if told is None:
            continue
        heard += 1
        if told["group"] != group or told["lost"]:
            raise Violation("users-told", f"of {told}", node)
    if not heard:
        raise Violation("users-told", "nobody was told of the fork", None)


def _is_shown(sim: Sim, message: str | None) -> bool:
    cy = sim.nodes[-1]
    return message in {line.message for line in sim.stage.shown(cy, sim.groups[0])}


def _all_talk(sim: Sim, group: str) -> None:
    for node in sim.nodes:
        sim.send(node, group)


PROCESS_SCENARIOS: Final = {
    each.name: each
    for each in (
        Scenario("partition-and-heal", 3, partition_and_heal, fewest=3),
        Scenario("laptop-asleep", 3, laptop_asleep, fewest=3),
        Scenario(
            "relay-withholds",
            3,
            relay_withholds,
            needs=frozenset({"relay", "withholding"}),
            fewest=3,
        ),
    )
}
