"""The relay as a node of the DHT: where others begin, who keeps values, and who dials back."""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from discovery.dht.service import DhtService
from discovery.scope import networks_now
from schemas.addresses import BootstrapAddress
from transport import AnonymousEndpoint, Endpoint, TransportLimits
from transport.supervise import begun_again
from transport.udp import Bind


class RelayDht:
    """Made before the relay's endpoint, whose handler of the ALPN is `service.serve`."""

    def __init__(
        self,
        bootstrap: Sequence[BootstrapAddress],
        clock: Callable[[], float],
        limits: TransportLimits,
        utc_now: Callable[[], datetime.datetime],
        bind: Bind | None,
    ) -> None:
        self._bootstrap = bootstrap
        self._limits = limits
        self._utc_now = utc_now
        self._bind = bind
        self._endpoint: Endpoint | None = None
        self.service = DhtService(
            clock=clock,
            networks=networks_now,
            open_anonymous=self._open_anonymous,
            server=True,
        )

    @asynccontextmanager
    async def taking_part(self, endpoint: Endpoint) -> AsyncIterator[None]:
        """For the length of the block. The table is in memory: nodes come again by themselves."""
        self._endpoint = endpoint
        self.service.start(endpoint)
        running = asyncio.create_task(begun_again(self._run, self.service.failed), name="dht")
        try:
            yield
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            await self.service.close()

    async def _run(self) -> None:
        await self.service.run(self._bootstrap)

    async def _open_anonymous(self) -> AnonymousEndpoint:
        if self._endpoint is None:
            raise RuntimeError("the DHT has not started")
        return await AnonymousEndpoint.open_anonymous(
            self._endpoint.address, limits=self._limits, utc_now=self._utc_now, bind=self._bind
        )
