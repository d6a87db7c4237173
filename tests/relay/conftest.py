"""Fixtures: a clock, the Cap'n Proto loop, a relay on loopback, and no task left behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from relay.server import Relay, open_relay
from tests.relay.support import Clock, config_for
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
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def kj(no_leaked_tasks: None) -> AsyncIterator[None]:
    async with kj_loop():
        yield


@pytest.fixture
async def relay(kj: None, clock: Clock, tmp_path: Path) -> AsyncIterator[Relay]:
    """A relay that answers on loopback, with its data in `tmp_path / "relay"`."""
    async with open_relay(config_for(tmp_path / "relay"), clock=clock) as relay:
        yield relay
