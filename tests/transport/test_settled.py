"""A connection that has finished its handshake does not keep what only the handshake needed."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc

from tests.transport.virtual import JumpingLoop, virtual_pair
from transport import TransportLimits

PAIRS = 20
KIB_OF_A_PAIR = 130  # measured: 79; with all that the handshake left: 216


def test_an_idle_connection_is_small(loop: JumpingLoop) -> None:
    async def scenario() -> None:
        kept = [virtual_pair(TransportLimits())]  # what is made once for all
        await kept[0][0].wait_established()
        gc.collect()
        tracemalloc.start()
        try:
            for _ in range(PAIRS):
                kept.append(virtual_pair(TransportLimits()))
                await kept[-1][0].wait_established()
            await asyncio.sleep(60)  # virtual: confirmed at both ends, and all that was queued sent
            gc.collect()
            held, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert not any(client.closed or server.closed for client, server, *_ in kept)
        assert held / PAIRS < KIB_OF_A_PAIR * 1024, held / PAIRS / 1024
        for client, server, *_ in kept:
            client.close_now()
            server.close_now()

    loop.run_until_complete(scenario())
