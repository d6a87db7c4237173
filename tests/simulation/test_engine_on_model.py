"""The engine cannot tell the model of MLS from MLS: its own tests, on the model."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import mls_rs
import pytest

from identity.envelope import open_untrusted
from simulation.model_mls import library
from tests.node.engine import test_groups, test_hostile, test_sending
from tests.node.engine.groups import test_healing
from tests.node.engine.world import World
from tests.simulation.borrowed import borrowed

NOT_ABOUT_MLS = [
    "test_a_long_backlog_makes_nothing_slower",
    "test_reading_what_is_new_does_not_walk_over_what_is_old",
    "test_the_backlog_of_one_group_does_not_delay_another",
]

for _module, _without in (
    (test_groups, []),
    (test_hostile, ["test_sealed_state_holds_no_seed"]),  # the model's blobs hide nothing
    (test_sending, NOT_ABOUT_MLS),
    (test_healing, []),
):
    globals().update(borrowed(vars(_module), _without))


@pytest.fixture
def world(tmp_path: Path) -> World:
    """With the real envelope: these tests open and seal it themselves."""
    return World(tmp_path, mls=replace(library(os.urandom), open_envelope=open_untrusted))


@pytest.fixture
def suite() -> int:
    return mls_rs.CLASSIC
