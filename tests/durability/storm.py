"""Traffic on three nodes and a relay while kill -9 takes one of them again and again."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

from node.api import operations as op
from node.api import shapes as s
from schemas.errors import Fault
from simulation.processes.talk import Talk
from tests.durability.programs import NodeProgram, Program, World

READY = 3  # programs that are up when somebody is killed
WHILE_STARTING = 0.15  # of the kills, if somebody is
AWAY = (0.0, 0.0, 0.0, 2.5)  # how long the dead stay dead: long enough for the relay to be used
PAUSE_S = 0.25  # between two messages of one node, at most
GONE = ("node-stopped", "not-running")


class Storm:
    """Traffic, deaths and restarts. Nobody is waited for: a process may die while it starts.

    `between_kills_s` is how long to wait before each kill, at most.
    """

    def __init__(
        self,
        world: World,
        talk: Talk,
        seed: int,
        *,
        between_kills_s: float = 0.1,
        pause_s: float = PAUSE_S,
    ) -> None:
        self.world = world
        self.talk = talk
        self.dice = random.Random(seed)
        self.killed: Counter[str] = Counter()
        self.under_way: list[int] = []  # at each kill
        self.while_starting = 0
        self._between_kills_s = between_kills_s
        self._pause_s = pause_s
        self._over = threading.Event()
        self._seed = seed
        self._back_at: dict[str, float] = {}
        self._starting: set[str] = set()

    @property
    def kills(self) -> int:
        return sum(self.killed.values())

    def run(self, phases: Callable[[Storm], None]) -> None:
        """Traffic while `phases` runs; in the end everybody is up again."""
        with ThreadPoolExecutor(len(self.world.nodes)) as pool:
            users = [pool.submit(self._use, node) for node in self.world.nodes]
            try:
                phases(self)
            finally:
                self._over.set()
            for user in users:
                user.result()
        self.revive_all()

    # --- somebody who uses a node

    def _use(self, node: NodeProgram) -> None:
        """Writes, and now and then reads. What a node that dies answers is not known."""
        dice = random.Random(f"{self._seed} {node.name}")
        while not self._over.wait(dice.random() * self._pause_s):
            self.talk.say(node)
            if dice.random() < 0.2:
                self._unless_gone(self.talk.reader(node).read)
            if node is self.world.ada and dice.random() < 0.05:
                # One member makes all changes: two at once are another test's subject.
                renew = s.ByGroup(self.talk.group)
                self._unless_gone(lambda: node.call(op.UPDATE_KEY, renew))  # noqa: B023

    def _unless_gone(self, call: Callable[[], object]) -> None:
        try:
            call()
        except Fault as fault:
            if fault.code not in GONE:
                raise

    # --- death and return

    def _up(self) -> list[Program]:
        return [
            program
            for program in self.world.programs
            if program.process is not None and program.name not in self._starting
        ]

    def revive_all(self) -> None:
        """Everybody is up when this returns."""
        while len(self._up()) < len(self.world.programs):
            self.revive()
            time.sleep(0.01)

    def revive(self) -> None:
        """Start those whose time has come; AssertionError when one does not come up."""
        for program in self.world.programs:
            if program.process is None and time.monotonic() >= self._back_at[program.name]:
                program.launch()
                self._starting.add(program.name)
            elif program.name in self._starting and program.look_ready() is not None:
                self._starting.discard(program.name)

    def kill_somebody(self) -> None:
        """Perhaps: not while too few are up, and not with nothing under way."""
        time.sleep(self.dice.random() * self._between_kills_s)  # the moment is what is random
        self.revive()
        up = self._up()
        if len(up) < READY:
            return
        running = [program for program in self.world.programs if program.process is not None]
        starting = [program for program in running if program not in up]
        early = bool(starting) and self.dice.random() < WHILE_STARTING
        victim = self.dice.choice(starting if early else up)
        with ExitStack() as stack:  # everybody stands still for the look at what is under way
            for program in running:
                stack.enter_context(program.frozen())
            under_way = sum(node.messages_under_way() for node in self.world.nodes)
            if not under_way:
                return
            victim.kill()
        self.while_starting += early
        self._starting.discard(victim.name)
        self.killed[victim.name] += 1
        self.under_way.append(under_way)
        self._back_at[victim.name] = time.monotonic() + self.dice.choice(AWAY)
