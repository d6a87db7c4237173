"""kill -9 of a random process at random moments, with messages under way each time.

`QUICNPROTOCHAT_TEST_SEED` repeats the choices of a run; its timing is the machine's.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from node.api import operations as op
from node.api import shapes as s
from schemas.errors import Fault
from tests.durability.conftest import Worlds
from tests.durability.programs import NodeProgram, Program, Talk, World

KILLS = 50
RUN_S = 150.0  # before giving up
READY = 3  # programs that are up when somebody is killed
WHILE_STARTING = 0.15  # of the kills, if somebody is
AWAY = (0.0, 0.0, 0.0, 2.5)  # how long the dead stay dead: long enough for the relay to be used
PAUSE_S = 0.25  # between two messages of one node, at most
GONE = ("node-stopped", "not-running")


class Storm:
    """Traffic, deaths and restarts. Nobody is waited for: a process may die while it starts."""

    def __init__(self, world: World, talk: Talk, seed: int) -> None:
        self.world = world
        self.talk = talk
        self.dice = random.Random(seed)
        self.killed: Counter[str] = Counter()
        self.under_way: list[int] = []  # at each kill
        self.while_starting = 0
        self._over = threading.Event()
        self._seed = seed
        self._back_at: dict[str, float] = {}
        self._starting: set[str] = set()

    def run(self) -> None:
        deadline = time.monotonic() + RUN_S
        with ThreadPoolExecutor(len(self.world.nodes)) as pool:
            users = [pool.submit(self._use, node) for node in self.world.nodes]
            try:
                while sum(self.killed.values()) < KILLS:
                    late = time.monotonic() > deadline
                    assert not late, f"only {sum(self.killed.values())} kills in time"
                    self._revive()
                    self._kill_somebody()
            finally:
                self._over.set()
            for user in users:
                user.result()
        while len(self._up()) < len(self.world.programs):
            self._revive()
            time.sleep(0.01)

    # --- somebody who uses a node

    def _use(self, node: NodeProgram) -> None:
        """Writes, and now and then reads. What a node that dies answers is not known."""
        dice = random.Random(f"{self._seed} {node.name}")
        while not self._over.wait(dice.random() * PAUSE_S):
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

    def _revive(self) -> None:
        for program in self.world.programs:
            if program.process is None and time.monotonic() >= self._back_at[program.name]:
                program.launch()
                self._starting.add(program.name)
            elif program.name in self._starting and program.look_ready() is not None:
                self._starting.discard(program.name)

    def _kill_somebody(self) -> None:
        time.sleep(self.dice.random() * 0.1)  # the moment itself is what is random
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


@pytest.mark.timeout(240)
def test_fifty_kills_lose_nothing_and_repeat_nothing(worlds: Worlds) -> None:
    seed = int(os.environ.get("QUICNPROTOCHAT_TEST_SEED") or random.randrange(2**32))
    print(f"QUICNPROTOCHAT_TEST_SEED={seed}")  # pytest shows it when the test fails
    world = worlds.get()
    talk = world.talk(world.ada, world.bob, world.cy)
    storm = Storm(world, talk, seed)
    storm.run()
    print(
        f"{dict(storm.killed)}, {storm.while_starting} while starting;"
        f" {len(talk.accepted)} accepted, {len(talk.unsure)} unsure"
    )
    assert len(storm.under_way) == KILLS
    assert min(storm.under_way) > 0
    talk.check(60.0)
    worlds.spoilt = False
