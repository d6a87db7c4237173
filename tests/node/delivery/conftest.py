"""Fixtures: the Cap'n Proto loop, fake nodes and real relays on loopback, no task left behind."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.fixtures import kj, no_leaked_tasks
from tests.node.delivery.support import FakeNodes, Relays


@pytest.fixture
async def nodes(kj: None) -> AsyncIterator[FakeNodes]:
    async with AsyncExitStack() as stack:
        yield FakeNodes(stack)


@pytest.fixture
async def relays(kj: None, tmp_path: Path) -> AsyncIterator[Relays]:
    async with AsyncExitStack() as stack:
        yield Relays(stack, tmp_path)
