"""A network that changes under two people who talk: all is shown, once, and they go on.

It takes seconds for each: real nodes, and changes that they must notice.
"""

from __future__ import annotations

import time
from functools import partial
from unittest.mock import Mock

import pytest

from simulation.processes.nat.internet import reason_against
from simulation.processes.nat.moving import Change, Peer, Voice, opened
from simulation.processes.talk import wait_until


@pytest.mark.parametrize("peer", Peer)
def test_nothing_is_lost_or_shown_twice(peer: Peer) -> None:
    if reason := reason_against():
        pytest.skip(reason)
    with opened(peer) as (dweller, talk):
        with talk.going_on():
            wait_until(partial(talk.heard_since, 0.0), "they talk")
            for change in Change:
                dweller.play(change)
                resumed = partial(talk.heard_since, time.monotonic())
                wait_until(resumed, f"they talk on after: {change}")
        for voice in talk.voices:
            assert voice.sent
            assert voice.lost == []
            assert voice.repeated == []


def test_what_is_missing_or_comes_twice_is_seen() -> None:
    voice = Voice(Mock(), Mock(), sent={"a": 1.0, "b": 2.0, "c": 3.0})
    voice.shown = [(1.1, "a", "direct"), (4.0, "b", "relay"), (4.2, "b", "direct")]
    assert voice.lost == ["c"]
    assert voice.repeated == ["b"]
    assert voice.silence(1.0, 5.0) == pytest.approx(2.9)
    assert voice.paths_since(1.5) == {"relay", "direct"}
