"""Fixtures that several folders share; their conftest.py imports what it wants."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from transport import kj_loop


@pytest.fixture(autouse=True)
async def no_leaked_tasks() -> AsyncIterator[None]:
    """No task outlives its test."""
    before = asyncio.all_tasks()
    yield
    for _ in range(5):
        await asyncio.sleep(0)
    leaked = asyncio.all_tasks() - before - {asyncio.current_task()}
    assert not leaked, f"tasks outlive their owners: {leaked}"


@pytest.fixture
async def kj(no_leaked_tasks: None) -> AsyncIterator[None]:
    """Inside pycapnp's event loop."""
    async with kj_loop():
        yield
