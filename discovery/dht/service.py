"""A node of the DHT on an endpoint: what a personal node and a relay have in common."""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from discovery.dht.contact import DhtContact
from discovery.dht.dial_back import DialBacker
from discovery.dht.limits import DEFAULT_DHT_LIMITS, DhtLimits
from discovery.dht.node import DhtNode
from discovery.dht.quic import OpenAnonymous, QuicRpc
from discovery.dht.quic_limits import DEFAULT_QUIC_LIMITS, QuicLimits
from discovery.dht.serving import DhtServer
from discovery.scope import NetworksNow, OwnNetworks
from schemas.addresses import Address, BootstrapAddress
from schemas.errors import Fault, Unreachable
from schemas.ids import DeviceKey
from transport import Connection, Endpoint

RETRY_FIRST_S = 2.0  # while nobody answers: the network may just come up
RETRY_LAST_S = 120.0
SETTLE_S = (2.0, 10.0, 60.0)  # looks around once more, while few are known
NETWORKS_S = 5.0  # between two looks at this machine's adapters

log = logging.getLogger(__name__)


class DhtService:
    """Made before its endpoint, whose handler `serve` is; lives from `start` to `close`.

    `clock` gives Unix seconds. `open_anonymous` opens an endpoint that names nobody, on the same
    network. `server`: whether it answers others, until that is set anew on `node`.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float],
        networks: NetworksNow,
        open_anonymous: OpenAnonymous,
        server: bool,
        limits: DhtLimits = DEFAULT_DHT_LIMITS,
        quic_limits: QuicLimits = DEFAULT_QUIC_LIMITS,
    ) -> None:
        self._clock = clock
        self._networks = networks
        self._own_networks: tuple[float, OwnNetworks] | None = None
        self._open_anonymous = open_anonymous
        self._server = server
        self._limits = limits
        self._quic_limits = quic_limits
        self._counts: Counter[str] = Counter()
        self._stir = asyncio.Event()
        self._front: DhtServer | None = None
        self.begun = asyncio.Event()  # somebody is in the table, or nobody could be asked

    def start(self, endpoint: Endpoint) -> None:
        self.rpc = QuicRpc(endpoint, self._open_anonymous, limits=self._quic_limits)
        self.node = DhtNode(
            endpoint.device,
            self.rpc,
            clock=self._clock,
            rng=random.Random(),  # noqa: S311 - spreads load and refreshes, hides nothing
            on_our_network=self._on_our_network,
            server=self._server,
            limits=self._limits,
        )
        backer = DialBacker(self._open_anonymous, self._quic_limits, self._counts)
        self._front = DhtServer(self.node.answer, backer, limits=self._quic_limits)

    async def close(self) -> None:
        if self._front is not None:
            await self.rpc.close()

    async def serve(self, connection: Connection) -> None:
        """The handler of the ALPN."""
        if self._front is not None and self.node.server:
            await self._front.serve(connection)

    def _on_our_network(self, address: Address) -> bool:
        """Asked for each contact that anybody tells of: the adapters are read now and then."""
        now = asyncio.get_running_loop().time()
        if self._own_networks is None or now - self._own_networks[0] > NETWORKS_S:
            self._own_networks = (now, self._networks())
        return self._own_networks[1].on_link(address.host)

    @property
    def counts(self) -> Counter[str]:
        """What was refused, not believed, given up or went wrong, by reason."""
        if self._front is None:
            return Counter()
        return self._counts + self._front.counts + self.rpc.counts + self.node.counts

    @property
    def askers(self) -> int:
        """Connections of others."""
        return 0 if self._front is None else self._front.connections

    def failed(self) -> None:
        """Taking part ended by an error, and begins anew: counted, and nobody waits for it."""
        self._counts["crashed"] += 1
        self.begun.set()

    # --- taking part

    async def run(
        self,
        named: Sequence[BootstrapAddress],
        known: Iterable[tuple[DeviceKey, Address]] = (),
    ) -> None:
        """Begin with whoever was named or is known from last time; then keep the table, for ever.

        While nobody answers they are asked again, less and less often, and at once on `stir`.
        """
        last_seen = [DhtContact(device, address) for device, address in known]
        async with asyncio.TaskGroup() as tasks:
            noting = tasks.create_task(self._note_the_first())
            if named or last_seen:
                await self._begin_until_known(named, last_seen)
            noting.cancel()
            self.begun.set()
            tasks.create_task(self.node.run())
            tasks.create_task(self._settle())

    async def _note_the_first(self) -> None:
        """One contact is enough to ask others; most of those of last time may be gone."""
        await self.rpc.answered.wait()
        self.begun.set()

    async def _begin_until_known(
        self, named: Sequence[BootstrapAddress], last_seen: Sequence[DhtContact]
    ) -> None:
        wait_s = RETRY_FIRST_S
        while not await self._begin(named, last_seen):
            self.begun.set()  # nobody waits for what may never be
            try:
                async with asyncio.timeout(wait_s):
                    await self._stir.wait()
            except TimeoutError:
                wait_s = min(wait_s * 2, RETRY_LAST_S)
            else:
                wait_s = RETRY_FIRST_S
            self._stir.clear()
            if self.node.contacts():  # others came to us
                return

    async def _settle(self) -> None:
        """Who begins together with others finds nobody but the first: they are there by and by."""
        for wait_s in SETTLE_S:
            await asyncio.sleep(wait_s)
            if 0 < len(self.node.contacts()) < self._limits.bucket:
                await self.node.bootstrap(())

    def stir(self) -> None:
        """The network is another: whoever did not answer may do so now."""
        self._stir.set()

    async def _begin(
        self, named: Sequence[BootstrapAddress], last_seen: Sequence[DhtContact]
    ) -> int:
        met = await asyncio.gather(*(self._meet(each) for each in named))
        return await self.node.bootstrap([*filter(None, met), *last_seen])

    async def _meet(self, named: BootstrapAddress) -> DhtContact | None:
        try:
            return await self.rpc.meet(named.address, named.device)
        except Unreachable as fault:
            self._counts[f"bootstrap-{fault.code}"] += 1
            log.info("nobody of the DHT at %s: %s", named.address, fault)
        except Fault as fault:
            self._counts[f"bootstrap-{fault.code}"] += 1
            log.warning("the DHT cannot begin at %s: %s", named.address, fault)
        return None
