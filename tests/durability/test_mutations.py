"""Tests of the tests: each breaks one rule in a real program, and the checker must go red.

What the checker calls lost is what a user calls lost. The ledger would have some of it handed over
again: after 5 minutes (`sent`, without a receipt), or a day before a relay's copy expires (`held`).
An arriving commit that is lost so is not among them: the others hand it over again.
"""

from __future__ import annotations

import pytest

from simulation.processes.talk import wait_until
from tests.durability import stories
from tests.durability.conftest import Worlds
from tests.durability.stories import RED_S, Boundary

NOT_FROM_RELAY = "not within .* shown from the relay, with the sender away"


@pytest.mark.timeout(90)
@pytest.mark.parametrize(
    "where, mutation, red",
    [
        (
            Boundary("message-arrival", "before", stories.relayed_arrival),
            "ack-before-commit",
            NOT_FROM_RELAY,
        ),
        (
            Boundary("message-arrival", "before", stories.direct_arrival),
            "ack-before-commit",
            "accepted and never shown: .*'ada says 1' at bob",
        ),
        (
            Boundary("enqueue", "before", stories.relay_enqueue),
            "enqueue-before-commit",
            NOT_FROM_RELAY,
        ),
    ],
    ids=str,
)
def test_an_answer_before_the_commit_is_noticed(
    worlds: Worlds, where: Boundary, mutation: str, red: str
) -> None:
    world = worlds.get()
    with pytest.raises(AssertionError, match=red) as caught:
        where.story(world, where, mutation).check(RED_S)
    print(caught.value)


@pytest.mark.timeout(90)
def test_a_send_that_is_answered_before_its_commit_is_noticed(worlds: Worlds) -> None:
    """The next process encrypts with a generation that was used: its message is taken for a
    duplicate, and what was accepted is gone from its sender. Also the journal watch sees it."""
    world = worlds.get()
    world.restarted(world.ada, "outcome-acked", "before", mutation="answer-before-commit")
    talk = world.talk(world.ada, world.bob)
    world.ada.arm()
    talk.must_say(world.ada)
    world.ada.wait_death()
    with pytest.raises(AssertionError, match="left before it was on disk"):
        world.ada.check_watch()
    reader = talk.reader(world.bob)

    def shown() -> bool:
        reader.read()
        return len(reader.shown) == 1

    wait_until(shown, "what was never on disk is shown")
    world.ada.start()
    talk.must_say(world.ada)
    with pytest.raises(AssertionError, match=r"accepted and never shown: .*'ada says 2' at bob"):
        talk.check(RED_S)
