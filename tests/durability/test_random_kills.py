"""kill -9 of a random process at random moments, with messages under way each time.

`QUICNPROTOCHAT_TEST_SEED` repeats the choices of a run; its timing is the machine's.
"""

from __future__ import annotations

import os
import random
import time

import pytest

from tests.durability.conftest import Worlds
from tests.durability.storm import Storm

KILLS = 50
RUN_S = 150.0  # before giving up


def fifty_kills(storm: Storm) -> None:
    deadline = time.monotonic() + RUN_S
    while storm.kills < KILLS:
        assert time.monotonic() < deadline, f"only {storm.kills} kills in time"
        storm.kill_somebody()


@pytest.mark.timeout(240)
def test_fifty_kills_lose_nothing_and_repeat_nothing(worlds: Worlds) -> None:
    seed = int(os.environ.get("QUICNPROTOCHAT_TEST_SEED") or random.randrange(2**32))
    print(f"QUICNPROTOCHAT_TEST_SEED={seed}")  # pytest shows it when the test fails
    world = worlds.get()
    talk = world.talk(world.ada, world.bob, world.cy)
    storm = Storm(world, talk, seed)
    storm.run(fifty_kills)
    print(
        f"{dict(storm.killed)}, {storm.while_starting} while starting;"
        f" {len(talk.accepted)} accepted, {len(talk.unsure)} unsure"
    )
    assert len(storm.under_way) == KILLS
    assert min(storm.under_way) > 0
    talk.check(60.0)
    worlds.spoilt = False
