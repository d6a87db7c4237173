"""The simulated network: who reaches whom, how long it takes, and what goes wrong on the way."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from random import Random
from typing import TYPE_CHECKING

from schemas.ids import DeviceKey
from simulation.stage import Node
from simulation.world.clock import VirtualClock

if TYPE_CHECKING:
    from simulation.world.machine import Machine

NOTICED_S = (0.7, 2.0)  # node/delivery/limits.py: doubt_s, then proof_s
RESENT_S = 0.2  # a lost packet costs about that, doubled each time
GIVEN_UP = 5  # losses in a row end the link


class Link:
    """A connection of two machines: frames in order, until it ends."""

    __slots__ = ("_last", "ends", "network", "over")

    def __init__(self, network: Network, ends: tuple[Machine, Machine]) -> None:
        self.network = network
        self.ends = ends
        self.over = False
        self._last = {ends[0].name: 0.0, ends[1].name: 0.0}

    def other(self, machine: Machine) -> Machine:
        return self.ends[1] if machine is self.ends[0] else self.ends[0]

    def carry(self, sender: Machine, deliver: Callable[[], object], *, twice: bool = False) -> None:
        """One frame; it arrives while the link lives and nothing cuts the way."""
        network, recipient = self.network, self.other(sender)
        delay = network.latency()
        if network.loss:
            lost = 0
            while network.rng.random() < network.loss:
                delay += RESENT_S * 2**lost
                lost += 1
                if lost > GIVEN_UP:
                    network.end(self, 0.0)
                    return
        arrives = network.clock.now + delay
        if not (network.reorder and network.rng.random() < network.reorder):
            arrives = self._last[sender.name] = max(arrives, self._last[sender.name])
        lives = sender.life, recipient.life

        def arrive() -> None:
            passes = network.passes(sender, recipient)
            if not self.over and passes and (sender.life, recipient.life) == lives:
                deliver()

        network.clock.at(arrives, arrive)
        if twice and network.duplicates and network.rng.random() < network.duplicates:
            network.clock.at(arrives + network.latency() * 3, arrive)


class Network:
    def __init__(self, clock: VirtualClock, rng: Random) -> None:
        self.clock = clock
        self.rng = rng
        self.latency_s = (0.01, 0.1)
        self.loss = self.duplicates = self.reorder = 0.0
        self._by_device: dict[DeviceKey, list[Machine]] = {}
        self._side: dict[Node, int] = {}
        self._isolated = False
        self._cut: set[tuple[Node, Node]] = set()
        self._links: dict[int, Link] = {}

    def add(self, machine: Machine) -> None:
        self._by_device.setdefault(machine.device, []).append(machine)

    def latency(self) -> float:
        return self.rng.uniform(*self.latency_s)

    # --- who reaches whom

    def passes(self, source: Machine, target: Machine) -> bool:
        """Whether a packet gets there."""
        return (
            source.up
            and target.up
            and not self._isolated
            and self._side.get(source.name, 0) == self._side.get(target.name, 0)
            and (source.name, target.name) not in self._cut
        )

    def connected(self, one: Machine, other: Machine) -> bool:
        return self.passes(one, other) and self.passes(other, one)

    def reaches_relay(self, machine: Machine) -> bool:
        return machine.up and self._side.get(machine.name, 0) == 0

    def find(self, seeker: Machine, device: DeviceKey) -> Machine | None:
        """Who answers for this device where `seeker` is."""
        for machine in self._by_device.get(device, ()):
            if machine is not seeker and self.connected(seeker, machine):
                return machine
        return None

    def holder(self, device: DeviceKey) -> Machine | None:
        """Who reads this device's mail at the relay."""
        for machine in self._by_device.get(device, ()):
            if self.reaches_relay(machine):
                return machine
        return None

    # --- trouble

    def partition(self, sides: Sequence[Collection[Node]]) -> None:
        self._side = {node: number for number, side in enumerate(sides) for node in side}
        self._end_dead()

    def cut(self, source: Node, target: Node) -> None:
        self._cut.add((source, target))
        self._end_dead()

    def isolate(self) -> None:
        self._isolated = True
        self._end_dead()

    def heal(self) -> None:
        self._isolated = False
        self._side.clear()
        self._cut.clear()

    def _end_dead(self) -> None:
        for link in list(self._links.values()):
            if not self.alive(link):
                self.end(link, None)

    # --- links

    def alive(self, link: Link) -> bool:
        return not link.over and self.connected(*link.ends)

    def join(self, one: Machine, other: Machine) -> Link:
        link = Link(self, (one, other))
        self._links[id(link)] = link
        return link

    def end(self, link: Link, after_s: float | None) -> None:
        """Both ends learn of it, each when it notices (None: when a timeout says so)."""
        if self._links.pop(id(link), None) is None:
            return
        for machine in link.ends:
            wait = self.rng.uniform(*NOTICED_S) if after_s is None else after_s
            self._notice(link, machine, wait)

    def _notice(self, link: Link, machine: Machine, wait: float) -> None:
        device, life = link.other(machine).device, machine.life

        def notice() -> None:
            link.over = True
            if machine.life == life and machine.running:
                machine.courier.link_ended(link, device)

        self.clock.after(wait, notice)
