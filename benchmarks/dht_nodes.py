"""Our DHT nodes in one process, for benchmarks.dht_real.

python -m benchmarks.dht_nodes NODES

Each value is looked up twice: `cold`, where the node has no connection to anybody, and `warm`,
where it has those of the first time.
"""

from __future__ import annotations

import asyncio
import cProfile
import dataclasses
import gc
import os
import random
import sys
import time
from collections.abc import Callable
from contextlib import AsyncExitStack, nullcontext

from benchmarks.dht_round import VALUE_BYTES, Round, serve
from discovery.dht.limits import DEFAULT_DHT_LIMITS
from discovery.dht.quic_limits import DEFAULT_QUIC_LIMITS
from discovery.dht.service import DhtService
from discovery.dht.watching import LookupEvent, Step
from discovery.scope import OwnNetworks
from identity.keys import device_from_seed, new_seed
from identity.signing import sign
from schemas.addresses import Address, BootstrapAddress
from schemas.dht import DHT_ALPN, DhtValue
from schemas.ids import DhtId
from schemas.records import Signed, SignedType
from transport import AnonymousEndpoint, Endpoint
from transport.supervise import Supervisor

PROFILE = "PROFILE_DHT"  # a file for the profile of all rounds
_LOOPBACK = Address("127.0.0.1", 0)
_SETTLE_S = 10.0
_LIFETIME_S = 3600
# A node of a network that just began would be told of after three minutes. The upkeep of fifty
# tables would stand in the way of lookups, since all of it is on one thread here.
_LIMITS = dataclasses.replace(DEFAULT_DHT_LIMITS, proven_s=0.0, round_s=3600.0)
_QUIC_LIMITS = dataclasses.replace(DEFAULT_QUIC_LIMITS, idle_s=1.0)  # so that it is cold soon


class Nodes:
    """As many as are started, all on one loop."""

    def __init__(self) -> None:
        self._services: list[DhtService] = []

    async def start(self, count: int, stack: AsyncExitStack) -> None:
        tasks = Supervisor(lambda name: sys.exit(f"{name} crashed"))
        stack.push_async_callback(tasks.close, 0)
        first: list[BootstrapAddress] = []
        for _ in range(count):
            service = DhtService(
                clock=time.time,
                networks=lambda: OwnNetworks(()),
                open_anonymous=lambda: AnonymousEndpoint.open_anonymous(_LOOPBACK),
                server=True,
                limits=_LIMITS,
                quic_limits=_QUIC_LIMITS,
            )
            key = device_from_seed(new_seed())
            endpoint = await Endpoint.open(
                key.private, _LOOPBACK, handlers={DHT_ALPN: service.serve}
            )
            stack.push_async_callback(endpoint.close)
            service.start(endpoint)
            stack.push_async_callback(service.close)
            tasks.start(service.run(first), name="dht")
            await service.begun.wait()
            first = first or [BootstrapAddress(Address(*endpoint.address), key.public)]
            self._services.append(service)
        await asyncio.sleep(_SETTLE_S)
        gc.freeze()  # no other heap has fifty nodes in it, to be walked over each time

    async def prepare(self) -> list[DhtId]:
        """Values to be looked up, published by other nodes."""
        keys = [DhtId(random.randbytes(DhtId.LENGTH)) for _ in self._services]
        for key in keys:
            author = random.choice(self._services)
            if not await author.node.publish(key, _value(key)):
                raise RuntimeError("nobody keeps a value")
        return keys

    async def lookups(self, keys: list[DhtId]) -> dict[str, Round]:
        """By kind."""
        rounds = {"cold": Round(), "warm": Round()}
        await asyncio.sleep(2 * _QUIC_LIMITS.idle_s)
        for service, key in zip(self._services, keys, strict=True):
            for result in rounds.values():
                with result.lookup() as found:

                    def watch(event: LookupEvent, found: Callable[[], None] = found) -> None:
                        if event.step is Step.FOUND:
                            found()

                    await service.node.find(key, _check, watch)
        return rounds


def _check(value: Signed) -> Signed:
    return value


def _value(key: DhtId) -> Signed:
    now = int(time.time())
    value = DhtValue(key, 1, now, now + _LIFETIME_S, random.randbytes(VALUE_BYTES))
    return sign(SignedType.DHT_VALUE, device_from_seed(new_seed()), value.encode())


async def _serve(count: int) -> None:
    loop = asyncio.get_running_loop()
    profile = cProfile.Profile() if PROFILE in os.environ else None
    async with AsyncExitStack() as stack:
        nodes = Nodes()
        await nodes.start(count, stack)

        async def lookups(keys: list[DhtId]) -> dict[str, Round]:
            with profile or nullcontext():
                return await nodes.lookups(keys)

        def turn() -> dict[str, Round]:  # on a thread: the nodes live on between rounds
            keys = asyncio.run_coroutine_threadsafe(nodes.prepare(), loop).result()
            return asyncio.run_coroutine_threadsafe(lookups(keys), loop).result()

        await asyncio.to_thread(serve, turn)
        if profile is not None:
            profile.dump_stats(os.environ[PROFILE])


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1])))
