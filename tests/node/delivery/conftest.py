"""Fixtures: the Cap'n Proto loop, fake nodes and real relays on loopback, no task left behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.node.delivery.support import FakeNodes, Relays
from transport import kj_loop


@pytest.fixture(autouse=True)
async def no_leaked_tasks() -> AsyncIterator[None]:
    before = asyncio.all_tasks()
    yield
    for _ in range(5):
        await asyncio.sleep(0)
    leaked = asyncio.all_tasks() - before - {asyncio.current_task()}
    assert not leaked, f"tasks outlive their owners: {leaked}"


@pytest.fixture
async def kj(no_leaked_tasks: None) -> AsyncIterator[None]:
    async with kj_loop():
        yield


@pytest.fixture
async def nodes(kj: None) -> AsyncIterator[FakeNodes]:
    async with AsyncExitStack() as stack:
        yield FakeNodes(stack)


@pytest.fixture
async def relays(kj: None, tmp_path: Path) -> AsyncIterator[Relays]:
    async with AsyncExitStack() as stack:
        yield Relays(stack, tmp_path)
