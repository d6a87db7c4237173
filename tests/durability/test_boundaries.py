"""A process dies at every boundary of every store; the user notices nothing but a delay."""

from __future__ import annotations

import pytest

from tests.durability.conftest import Worlds
from tests.durability.stories import BOUNDARIES, Boundary


@pytest.mark.timeout(90)
@pytest.mark.parametrize("where", BOUNDARIES, ids=str)
def test_a_death_here_loses_nothing_and_repeats_nothing(worlds: Worlds, where: Boundary) -> None:
    world = worlds.get()
    talk = where.story(world, where, "")
    talk.check()
    worlds.spoilt = False
