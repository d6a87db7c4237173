"""The engine cannot tell the model of MLS from MLS: its own tests, on the model."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import mls_rs
import pytest

from identity.envelope import open_untrusted
from simulation.model_mls import library
from tests.node.engine import test_groups, test_hostile, test_sending, test_timers
from tests.node.engine.groups import test_healing
from tests.node.engine.world import World
from tests.simulation.borrowed import borrowed

for _module in (test_groups, test_hostile, test_sending, test_timers, test_healing):
    globals().update(borrowed(vars(_module)))


@pytest.fixture
def world(tmp_path: Path) -> World:
    """With the real envelope: these tests open and seal it themselves."""
    return World(tmp_path, mls=replace(library(os.urandom), open_envelope=open_untrusted))


@pytest.fixture
def suite() -> int:
    return mls_rs.CLASSIC
