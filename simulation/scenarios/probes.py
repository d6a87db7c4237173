"""Small scenarios for rules that no other one leans on."""

from __future__ import annotations

from functools import partial

from schemas.limits import SNAPSHOT_EPOCHS
from simulation.scenario import Sim, scenario

DAY_S = 86_400.0


@scenario("only-admins-remove", nodes=4, fewest=3)
def only_admins_remove(sim: Sim) -> None:
    """A member who is no admin tries to remove another, who stays."""
    group = sim.group()
    member, other = sim.some(2, sim.nodes[1:])
    sim.remove(member, group, other, wanted=False)
    sim.chatter(group, every=2, during=10)
    sim.wait(10)
    sim.converge(group, within=10)
    sim.claim("only-admins-remove", other in sim.members(group), f"{member} removed {other}")


@scenario("leaving", nodes=5, fewest=3)
def leaving(sim: Sim) -> None:
    """The only admin leaves while another renews its keys; nobody has it as a member then."""
    group = sim.group()
    leaver, other = sim.nodes[0], sim.rng.choice(sim.nodes[1:])
    sim.chatter(group, every=2, during=20)
    sim.wait(5)
    sim.leave(leaver, group)
    sim.after(sim.rng.uniform(0, 2), sim.update_key, other, group)
    sim.wait(20)
    sim.converge(group, within=60)


@scenario("sybils", nodes=6, fewest=4, needs={"clones"})
def sybils(sim: Sim) -> None:
    """An insider adds devices of its own on an epoch that the others left long ago."""
    group = sim.group(admins=2)
    insider, honest = sim.nodes[1], [sim.nodes[0], *sim.nodes[2:]]
    twin = sim.clone(insider)
    puppets = sim.more_nodes(len(honest) + 1)
    sim.insiders |= set(puppets)
    sim.partition(honest, [twin, *puppets])
    sim.sleep(insider)
    sim.wake(twin)
    sim.chatter(group, every=4, during=60, among=honest)
    for _ in range(3):
        sim.wait(15)
        sim.update_key(sim.rng.choice(honest), group)
    sim.add(group, twin, puppets)
    sim.wait(30)
    for puppet in puppets:
        sim.update_key(puppet, group)
        sim.wait(3)
    before = sim.epoch(group)
    for cheat in (twin, *puppets):
        sim.deafen(cheat)
    sim.heal()
    sim.wait(30)
    sim.converge(group, within=60)
    strangers = set(puppets) & sim.members(group)
    sim.claim("settled-work-stays", not strangers, f"with {sorted(strangers)} from epoch {before}")


@scenario("withheld-from-readers", nodes=6, fewest=4, needs={"clones"})
def withheld_from_readers(sim: Sim) -> None:
    """Where most only read, a removal comes too late that an admin made and kept to itself."""
    group = sim.group(admins=2)
    insider = sim.nodes[1]
    honest = [node for node in sim.nodes if node != insider]
    twin = sim.clone(insider)
    sim.sleep(insider)
    sim.partition(honest, [twin])
    sim.wake(twin)
    sim.remove(twin, group, honest[-1], wanted=False)
    sim.sleep(twin)
    for _ in range(4):
        sim.wait(20)
        sim.update_key(honest[0], group)
    sim.wait(20)
    before = sim.epoch(group)
    sim.heal()
    sim.deafen(twin)
    sim.wake(twin)
    sim.wait(30)
    sim.converge(group, within=60)
    after = sim.epoch(group)
    sim.claim("settled-work-stays", after >= before, f"epoch {after} after {before}")


@scenario("removal-by-the-few", nodes=5, fewest=4)
def removal_by_the_few(sim: Sim) -> None:
    """An admin, alone, removes a member while all others change keys: the removal is made again."""
    group = sim.group()
    admin, gone, *others = sim.nodes
    sim.partition([admin], [gone, *others])
    sim.after(5, sim.remove, admin, group, gone)
    sim.changes(group, others, count=3, during=30)
    sim.chatter(group, every=5, during=30, among=[admin, *others])
    sim.wait(40)
    sim.heal()
    sim.wait(20)
    sim.converge(group, within=60)


@scenario("beyond-the-bound", nodes=4, fewest=3)
def beyond_the_bound(sim: Sim) -> None:
    """One, alone, goes on for more epochs than anybody keeps; the others take it in again."""
    group = sim.group()
    alone, *others = sim.nodes
    sim.partition([alone], others)
    sim.chatter(group, every=10, during=160)
    for _ in range(SNAPSHOT_EPOCHS + 8):
        sim.after(sim.rng.uniform(0, 150), sim.update_key, alone, group)
    sim.changes(group, others, count=2, during=150)
    sim.wait(160)
    sim.heal()
    sim.converge(group, within=120)
    sim.claim("taken-in-again", alone in sim.members(group), f"without {alone}")


@scenario("overtaken", nodes=4)
def overtaken(sim: Sim) -> None:
    """Commits and messages overtake each other on the way."""
    group = sim.group()
    sim.trouble(latency=(0.01, 1.0), reorder=0.8, duplicates=0.2)
    for _ in range(4):
        fast = sim.rng.choice(sim.nodes)
        for _ in range(4):
            sim.update_key(fast, group)
            sim.send(fast, group)
            sim.wait(0.05)
        sim.converge(group, within=15)


@scenario("heals-at-once", nodes=6)
def heals_at_once(sim: Sim) -> None:
    """Two of a connected group commit at once, again and again: two seconds later it is one."""
    group = sim.group()
    for _ in range(3):
        sim.wait(15)
        for node in sim.some(2):
            sim.update_key(node, group)
            sim.send(node, group)
        sim.wait(0.3)
        sim.converge(group, within=1.7)


@scenario("disks-full", nodes=4, needs={"disk-full"})
def disks_full(sim: Sim) -> None:
    """Disks run full for seconds, while their users and all others write and change keys."""
    group = sim.group()
    sim.chatter(group, every=0.7, during=120)
    sim.changes(group, sim.nodes, count=8, during=120)
    for _ in range(20):
        node, when = sim.rng.choice(sim.nodes), sim.rng.uniform(0, 110)
        sim.after(when, partial(sim.full_disk, node, for_s=sim.rng.uniform(2, 6)))
        sim.after(when + sim.rng.uniform(0, 4), sim.update_key, node, group)
        for _ in range(3):
            sim.after(when + sim.rng.uniform(0, 5), sim.send, node, group)
    sim.wait(130)
    sim.converge(group, within=60)


@scenario("one-way", nodes=4, needs={"one-way"})
def one_way(sim: Sim) -> None:
    """For minutes, some hear others who do not hear them."""
    group = sim.group()
    sim.chatter(group, every=4, during=240)
    for _ in range(4):
        source, target = sim.some(2)
        sim.after(sim.rng.uniform(0, 120), sim.stage.cut, source, target)
    sim.changes(group, sim.nodes, count=3, during=240)
    sim.wait(240)
    sim.heal()
    sim.converge(group, within=60)


@scenario("fast-insider", nodes=6, fewest=4, needs={"clones"})
def fast_insider(sim: Sim) -> None:
    """Removed, an insider goes on committing every second, and is never a member again."""
    group = sim.group()
    insider, honest = sim.nodes[-1], sim.nodes[:-1]
    racer = sim.clone(insider)
    sim.sleep(insider)
    sim.deafen(racer)
    sim.wake(racer)
    sim.chatter(group, every=3, during=60, among=honest)
    sim.remove(honest[0], group, insider)
    sim.every(1, sim.update_key, racer, group, during=60)
    sim.wait(15)
    for _ in range(15):
        sim.wait(3)
        sim.claim("removal-holds", insider not in sim.members(group), f"{insider} is back")
    sim.sleep(racer)
    sim.converge(group, within=60)


@scenario("clock-ahead", nodes=4, fewest=3, needs={"skew"})
def clock_ahead(sim: Sim) -> None:
    """Somebody's clock is a year ahead for a minute, while their messages wait."""
    group = sim.group()
    alone, *others = sim.nodes
    sim.partition([alone], others)
    sim.chatter(group, every=4, during=60)
    sim.changes(group, others, count=3, during=60)
    sim.wait(60)
    sim.stage.set_clock(alone, 400 * DAY_S)
    sim.wait(60)
    sim.stage.set_clock(alone, 0.0)
    sim.heal()
    sim.converge(group, within=60)


@scenario("clock-back", nodes=4, needs={"skew"})
def clock_back(sim: Sim) -> None:
    """In the second in which two commits are settled all clocks go back by an hour."""
    group = sim.group()
    for hours in (1, 2):
        sim.wait(15)
        for node in sim.some(2):
            sim.update_key(node, group)
        for node in sim.nodes:
            sim.after(sim.rng.uniform(0.2, 0.8), sim.stage.set_clock, node, -3600.0 * hours)
        sim.wait(1)
        sim.converge(group, within=10)


@scenario("clocks-jump", nodes=4, fewest=3, needs={"skew"})
def clocks_jump(sim: Sim) -> None:
    """During a fork some clocks go an hour back, others a year ahead until they are put right."""
    group = sim.group()
    sim.partition(sim.nodes[-1:], sim.nodes[:-1])
    sim.chatter(group, every=5, during=60)
    sim.changes(group, sim.nodes, count=4, during=60)
    for node in sim.nodes:
        ahead_s = sim.rng.choice((-3600.0, 400 * DAY_S))
        sim.after(sim.rng.uniform(10, 50), sim.stage.set_clock, node, ahead_s)
    sim.wait(60)
    sim.heal()
    for node in sim.nodes:
        sim.after(sim.rng.uniform(1, 20), sim.stage.set_clock, node, 0.0)
    sim.wait(30)
    sim.converge(group, within=60)
