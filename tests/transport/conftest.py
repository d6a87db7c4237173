"""Fixtures: endpoints that close themselves, and no task that outlives its test."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.fixtures import kj, no_leaked_tasks
from tests.transport.support import Open
from tests.transport.virtual import loop


@pytest.fixture
async def open_endpoint(no_leaked_tasks: None) -> AsyncIterator[Open]:
    opener = Open()
    yield opener
    for endpoint in opener.endpoints:
        await endpoint.close()
        assert not endpoint._routes, "a closed endpoint remembers connections"
        assert not endpoint._ids
