"""A world of engines; every group test runs with both suites."""

from __future__ import annotations

from pathlib import Path

import mls_rs
import pytest

from tests.node.engine.world import World


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.fixture(params=[mls_rs.HYBRID, mls_rs.CLASSIC], ids=["hybrid", "classic"])
def suite(request: pytest.FixtureRequest) -> int:
    return int(request.param)
