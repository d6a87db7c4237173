"""Fixtures of these tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from discovery.dht.quic_limits import DEFAULT_QUIC_LIMITS, QuicLimits
from tests.discovery.dht.quic_support import OpenPlace, Place
from tests.transport.virtual import loop


@pytest.fixture
async def place(no_leaked_tasks: None) -> AsyncIterator[OpenPlace]:
    """`await place(limits)`: an endpoint that speaks the DHT, until the test ends."""
    async with AsyncExitStack() as stack:

        async def make(limits: QuicLimits = DEFAULT_QUIC_LIMITS) -> Place:
            return await Place(limits).open(stack)

        yield make
