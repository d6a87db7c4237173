"""Whatever comes up: the scenarios above are what somebody thought of."""

from __future__ import annotations

from simulation.scenario import Sim, scenario
from simulation.stage import Group

SECONDS = (60.0, 600.0, 6000.0)
MOST_NEWCOMERS = 3
SKEW_S = 1800.0  # KeyPackages are valid from an hour before they are made


@scenario(
    "anything", nodes=6, fewest=3, needs={"crash-points", "disk-full", "one-way", "relay", "skew"}
)
def anything(sim: Sim) -> None:
    """The seed decides: commits, joins, removals, partitions, sleep, crashes, clocks."""
    group = sim.group(admins=2)
    sim.trouble(
        latency=(0.01, sim.rng.choice((0.1, 1.0, 5.0))),
        loss=sim.rng.choice((0.0, 0.1, 0.3)),
        duplicates=sim.rng.choice((0.0, 0.1)),
        reorder=sim.rng.choice((0.0, 0.3)),
    )
    length = sim.rng.choice(SECONDS)
    for _ in range(sim.rng.randint(5, 40)):
        sim.after(sim.rng.uniform(0, length), _something, sim, group)
    sim.wait(length)
    sim.repair()
    sim.converge(group, within=120)


def _something(sim: Sim, group: Group) -> None:
    rng = sim.rng
    node = rng.choice(sim.nodes)
    other = rng.choice([peer for peer in sim.nodes if peer != node])
    match rng.choices(
        ("send", "update", "split", "heal", "sleep", "wake", "crash", "full", "clock", "add",
         "remove", "leave", "cut"),
        (30, 16, 10, 5, 6, 8, 6, 3, 3, 5, 4, 1, 3),
    )[0]:  # fmt: skip
        case "send":
            sim.send(node, group)
        case "update":
            sim.update_key(node, group)
        case "split":
            side = sim.some(rng.randint(1, len(sim.nodes) - 1))
            sim.partition(side, [peer for peer in sim.nodes if peer not in side])
        case "heal":
            sim.heal()
        case "sleep":
            sim.sleep(node)
        case "wake":
            sim.wake(node)
        case "crash":
            sim.crash(node, rng.choice(("before", "after", "between")))
        case "full":
            sim.full_disk(node, for_s=rng.uniform(1, 60))
        case "clock":
            sim.set_clock(node, rng.uniform(-SKEW_S, SKEW_S))
        case "add" if len(sim.nodes) < 6 + MOST_NEWCOMERS:
            sim.add(group, node, sim.more_nodes(1))
        case "remove":
            sim.remove(sim.nodes[rng.randint(0, 1)], group, other)
        case "leave":
            sim.leave(node, group)
        case "cut":
            sim.cut(node, other)
        case _:
            pass
