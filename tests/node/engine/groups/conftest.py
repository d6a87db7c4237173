"""A group with an insider in it."""

from __future__ import annotations

import pytest

from schemas.ids import GroupId
from tests.node.engine.world import Person, World


@pytest.fixture
def tea(world: World) -> tuple[Person, Person, Person, Person, GroupId]:
    """Mal is a member, and no admin."""
    ada, bob, dan, mal = people = world.friends("ada", "bob", "dan", "mal")
    return ada, bob, dan, mal, world.tea(people)
