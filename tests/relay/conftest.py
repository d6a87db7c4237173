"""Fixtures: a clock, the Cap'n Proto loop, a relay on loopback, and no task left behind."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from relay.server import Relay, open_relay
from tests.fixtures import kj, no_leaked_tasks
from tests.relay.postgres import PostgresServer
from tests.relay.support import Clock, config_for


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def relay(kj: None, clock: Clock, tmp_path: Path) -> AsyncIterator[Relay]:
    """A relay that answers on loopback, with its data in `tmp_path / "relay"`."""
    async with open_relay(config_for(tmp_path / "relay"), clock=clock) as relay:
        yield relay


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """The server of this run, started by the first test that needs it."""
    with PostgresServer() as server:
        yield server


@pytest.fixture
async def database_url(postgres: PostgresServer) -> AsyncIterator[str]:
    """Of a new, empty database."""
    async with postgres.database() as url:
        yield url
