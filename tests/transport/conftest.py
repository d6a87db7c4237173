"""Fixtures: endpoints that close themselves, and no task that outlives its test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.transport.support import Open
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
async def open_endpoint(no_leaked_tasks: None) -> AsyncIterator[Open]:
    opener = Open()
    yield opener
    for endpoint in opener.endpoints:
        await endpoint.close()
        assert not endpoint._routes, "a closed endpoint remembers connections"
        assert not endpoint._ids


@pytest.fixture
async def kj(no_leaked_tasks: None) -> AsyncIterator[None]:
    async with kj_loop():
        yield
