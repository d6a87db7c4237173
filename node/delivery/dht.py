"""This node's part in the DHT: it takes part, is found there, and finds others."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass

from discovery.dht.quic import OpenAnonymous
from discovery.dht.service import DhtService
from discovery.scope import NetworksNow
from node.delivery.asking import Ask
from node.delivery.dht_lookups import DhtLookups
from node.delivery.dht_publisher import DhtPublisher
from node.delivery.dht_reachability import OnSeen, Reachability
from node.delivery.limits import DeliveryLimits
from node.engine.commands import WhoAmI
from node.engine.delivery_commands import DhtStart, KeepDhtContacts
from schemas.addresses import Address, BootstrapAddress, RelayAddress
from schemas.dht import DialedBack
from schemas.errors import Fault
from schemas.ids import DeviceKey
from schemas.visibility import DhtVisibility
from transport import Connection, Endpoint
from transport.supervise import Supervisor, begun_again

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class DhtStatus:
    """`server`: others may ask us; else this node is a client only.

    `published_until`: Unix seconds, None when nothing of ours is kept; `kept_by` how many nodes.
    """

    contacts: int
    server: bool
    values_kept: int
    askers: int
    visibility: DhtVisibility
    published_until: float | None
    kept_by: int


@dataclass(frozen=True, slots=True)
class DhtMeans:
    """`public`: this node lasts and listens; else it only looks others up."""

    ask: Ask
    limits: DeliveryLimits
    counters: Counter[str]
    clock: Callable[[], float]
    public: bool
    visibility: DhtVisibility
    networks: NetworksNow
    open_anonymous: OpenAnonymous
    news: Callable[[DeviceKey], None]
    on_seen: OnSeen


class Dht:
    """Made before the endpoint whose handler `serve` is. `begin` takes part; the stack ends it."""

    def __init__(self, means: DhtMeans) -> None:
        self._means = means
        # The user lets nobody see our address: nobody is asked anything. Until that is known, too.
        self._hidden = True
        self._nameless = False  # somebody must not see it: who serves is found by its device key
        self._service = DhtService(
            clock=means.clock,
            networks=means.networks,
            open_anonymous=means.open_anonymous,
            server=False,
        )
        self._tasks = Supervisor(lambda name: means.counters.update([f"{name}-crashed"]))
        self._running: asyncio.Task[None] | None = None
        self._anew = asyncio.Lock()
        self._ended = False
        self._begun_at: list[BootstrapAddress] = []
        self._saved: tuple[tuple[DeviceKey, Address], ...] = ()

    async def serve(self, connection: Connection) -> None:
        await self._service.serve(connection)

    def start(self, endpoint: Endpoint, stack: AsyncExitStack) -> None:
        """Nobody is asked anything yet."""
        means = self._means
        self._service.start(endpoint)
        stack.push_async_callback(self._service.close)
        node, public = self._service.node, means.visibility is DhtVisibility.PUBLIC
        self.lookups = DhtLookups(
            node, means.ask, means.limits, means.clock, self._ready, means.news
        )
        self._publisher = DhtPublisher(node, means.ask, means.limits, public=public)
        self._reachability = Reachability(node, self._service.rpc, means.limits, means.on_seen)
        stack.push_async_callback(self.lookups.close)
        stack.push_async_callback(self._end)

    def begin(self) -> None:
        """Take part, and be found. A node that does not last does so once it has to look."""
        if self._means.public:
            self._run()

    def renewed(self) -> None:
        """Our endpoint record, discovery secret or relays may be new."""
        if self._running is not None:
            self._publisher.stir()
            self._start(self._look_at_relays, name="dht-relays")

    def network_changed(self) -> None:
        if self._running is not None:
            self._service.stir()
            self._reachability.stir()
            self.lookups.forget()

    def policy_changed(self) -> None:
        self._start(self._look_at_policy, name="dht-policy")

    def status(self) -> DhtStatus:
        service, publisher = self._service, self._publisher
        return DhtStatus(
            len(service.node.contacts()),
            service.node.server,
            service.node.values_kept,
            service.askers,
            self._means.visibility,
            publisher.until,
            publisher.kept_by,
        )

    def dial_backs(self) -> tuple[tuple[Address, DialedBack], ...]:
        """Contacts that were asked last to dial us back, and what they said."""
        return self._reachability.answers

    @property
    def counts(self) -> Counter[str]:
        return self._service.counts

    # --- taking part

    def _run(self) -> None:
        if self._running is None:
            self._running = self._start(self._take_part, name="dht")

    def _start(self, work: Callable[[], Awaitable[None]], name: str) -> asyncio.Task[None] | None:
        """The engine may refuse anything for a while: a full disk."""
        if self._ended:
            return None  # news that came while the node stops
        return self._tasks.start(begun_again(work, self._service.failed), name=name)

    async def _ready(self) -> bool:
        """Whether the DHT may be asked; waits until it began."""
        self._run()
        await self._service.begun.wait()
        return not self._hidden

    async def _take_part(self) -> None:
        means = self._means
        start = await means.ask(DhtStart())
        self._hidden = start.hides_address
        self._nameless = start.hides_from_some
        if self._hidden:
            self._service.begun.set()
            return
        self._begun_at = await self._relays()
        named = [*start.bootstrap, *self._begun_at]
        self._saved = start.contacts
        # Whoever is the first has nobody to ask whether it is reachable; who comes, reached it.
        alone = not named and not start.contacts
        serves = means.public and not self._nameless
        self._service.node.server = serves and alone
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._service.run(named, start.contacts))
            tasks.create_task(self._remember())
            await self._service.begun.wait()
            if serves:
                tasks.create_task(self._reachability.run())
            if means.public and means.visibility is not DhtVisibility.OFF:
                tasks.create_task(self._publisher.run())

    async def _relays(self) -> list[BootstrapAddress]:
        me = await self._means.ask(WhoAmI())
        relays = [RelayAddress.parse(text) for text in me.relays]
        return [
            BootstrapAddress(process, relay.device)
            for relay in relays
            for process in relay.processes
        ]

    async def _look_at_relays(self) -> None:
        """Where nobody is known, a relay that was named just now is where to begin."""
        if not self._service.node.contacts() and await self._relays() != self._begun_at:
            await self._begin_anew()

    async def _look_at_policy(self) -> None:
        start = await self._means.ask(DhtStart())
        if (start.hides_address, start.hides_from_some) != (self._hidden, self._nameless):
            self._hidden, self._nameless = start.hides_address, start.hides_from_some
            self._service.node.server = False
            await self._begin_anew()

    async def _begin_anew(self) -> None:
        """If it had begun at all."""
        async with self._anew:
            if self._running is None:
                return
            self._running.cancel()
            await asyncio.wait([self._running])
            self._running = None
            self._service.begun.clear()
            self._run()

    async def _remember(self) -> None:
        """For ever: whom we know, so that the next start needs nobody's address."""
        while True:
            await asyncio.sleep(self._means.limits.dht_remember_s)
            await self._save()

    async def _save(self) -> None:
        contacts = self._service.node.contacts()[: self._means.limits.dht_remembered]
        now = tuple((each.device, each.address) for each in contacts)
        if not now or set(now) == set(self._saved):
            return  # an empty table says that we are offline
        try:
            await self._means.ask(KeepDhtContacts(now))
        except Fault as fault:
            log.info("the DHT's contacts are not kept: %s", fault)
        else:
            self._saved = now

    async def _end(self) -> None:
        self._ended = True
        if self._running is not None and not self._hidden:
            await self._save()
        await self._tasks.close(0)
