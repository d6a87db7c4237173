"""`dialBack`: tells an asker whether its address is reachable from a port it never spoke to.

Only the address that its connection has proven is dialled, one at a time, and rarely for each
address prefix: nobody can have us knock at somebody else's door.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable

from discovery.dht.quic_limits import QuicLimits
from discovery.dht.rpc import Asker
from schemas.dht import DHT_ALPN, DhtError, DialedBack
from schemas.errors import Fault
from transport import AnonymousEndpoint
from transport.admission import prefix_of
from transport.rate import Buckets, TokenBucket

OpenAnonymous = Callable[[], Awaitable[AnonymousEndpoint]]


class DialBacker:
    """`open_anonymous`: an endpoint on a fresh port, made for each dial."""

    def __init__(
        self, open_anonymous: OpenAnonymous, limits: QuicLimits, counts: Counter[str]
    ) -> None:
        self._open_anonymous = open_anonymous
        self._limits = limits
        self._counts = counts
        self._all = TokenBucket(limits.dial_back_rate, limits.dial_back_burst)
        self._prefixes: Buckets[bytes] = Buckets(
            limits.dial_back_prefix_rate, limits.dial_back_prefix_burst
        )
        self._dialling = False

    async def dial(self, asker: Asker) -> DialedBack | DhtError:
        """Whether `asker` answers at its address; refused when too much is asked of us."""
        if self._dialling or not self._may(asker):
            self._counts["dial-back-refused"] += 1
            return DhtError("try-later", "others are dialled back now")
        self._dialling = True
        try:
            return DialedBack(await self._answers(asker), str(asker.address))
        except Fault as fault:
            self._counts[f"dial-back-{fault.code}"] += 1
            return DhtError("cannot-dial", "no socket for it")
        finally:
            self._dialling = False

    def _may(self, asker: Asker) -> bool:
        prefix = prefix_of(asker.address.host)
        buckets = [self._all, *([] if prefix is None else [self._prefixes.of(prefix)])]
        now = asyncio.get_running_loop().time()
        if any(bucket.wait_s(now) for bucket in buckets):
            return False
        for bucket in buckets:
            bucket.use(1, now)
        return True

    async def _answers(self, asker: Asker) -> bool:
        """Raises Fault when there is no socket to dial from."""
        endpoint = await self._open_anonymous()
        try:
            await endpoint.dial(
                [asker.address],
                expected=asker.device,
                alpn=DHT_ALPN,
                deadline_s=self._limits.dial_back_s,
            )
        except Fault:
            return False
        else:
            return True
        finally:
            await endpoint.close()
