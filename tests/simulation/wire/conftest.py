"""A stage of real nodes, closed at the end of the test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from simulation.wire.stage import WireStage


@pytest.fixture
def stage() -> Iterator[WireStage]:
    made = WireStage(1)
    try:
        yield made
    finally:
        made.close()
