"""Delivery, put together: everything between the engine and the network, started and stopped."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace

from discovery.mdns import Mdns
from discovery.mdns_service import Advert
from discovery.resolver import Resolver
from discovery.scope import NetworksNow, OwnNetworks
from discovery.sources import ELSEWHERE, RELAY
from identity.keys import KeyPair
from node.delivery.anonymous_relays import AnonymousRelays
from node.delivery.asking import Ask
from node.delivery.better_paths import BetterPaths
from node.delivery.candidates import Candidates
from node.delivery.config import DeliveryConfig
from node.delivery.courier import Couriers, Means
from node.delivery.departures import Departures
from node.delivery.dht import Dht, DhtMeans
from node.delivery.dialer import Dialer
from node.delivery.greet import Greeter
from node.delivery.lan import Lan, advert_of, interfaces_for
from node.delivery.link import Link
from node.delivery.links import Links
from node.delivery.meeting import MeetingMeans, Meetings
from node.delivery.observed import ObservedAddresses
from node.delivery.obtain import Obtainer, read_relays
from node.delivery.outcomes import OutcomeDesk
from node.delivery.own_relays import OwnRelays, RelayMeans
from node.delivery.path_rules import PathRules
from node.delivery.paths import Paths
from node.delivery.peer_addresses import PeerAddresses
from node.delivery.relay_moves import RelayMoves
from node.delivery.relay_pool import RelayPool
from node.delivery.requests import RequestServer
from node.delivery.router_port import RouterPort
from node.delivery.sockets import Sockets
from node.delivery.token_choice import TokenChoice
from node.delivery.whereabouts import Whereabouts
from node.engine.commands import WhoAmI
from node.engine.delivery_commands import BundleWish
from node.engine.relay_commands import ListFormerRelays, ReadRelayTokens
from node.engine.values import (
    BundleChanged,
    ContactsChanged,
    Counted,
    Effect,
    Event,
    KeyPackagesLow,
    LinkUnwanted,
    OutboxReady,
    PolicyChanged,
    SummaryReady,
    TokensChanged,
)
from schemas.addresses import Address
from schemas.dht import DHT_ALPN
from schemas.errors import Fault
from schemas.frames import P2P_ALPN, Meet, MeetRequest
from schemas.group_records import SUMMARY_BYTES
from schemas.ids import DeviceKey
from schemas.records import Signed
from schemas.visibility import LanVisibility
from transport import AnonymousEndpoint, Handler
from transport.supervise import Supervisor

log = logging.getLogger(__name__)


class Delivery:
    """Made by `open_delivery`. Effects of the engine go to `on_effect`."""

    def __init__(
        self,
        device: KeyPair[DeviceKey],
        ask: Ask,
        config: DeliveryConfig,
        counters: Counter[str],
        clock: Callable[[], float],
        announce: Callable[[Event], None],
    ) -> None:
        self._announce = announce
        self._device = device
        self._ask = ask
        self._config = config
        self._clock = clock
        self._limits = self.limits = config.limits
        self.public = config.listen is not None
        self.counters = counters
        self._lan: Lan | None = None
        self.router_port: RouterPort | None = None
        self._sockets = Sockets(
            device,
            config.listen,
            config.transport_limits,
            clock,
            config.post_quantum_only,
            config.bind,
        )
        self._tasks = Supervisor(lambda name: counters.update([f"{name}-crashed"]))
        loop = asyncio.get_running_loop()
        self._requests = RequestServer(ask, self._limits, counters, loop.time, self._on_meeting)
        self.networks: NetworksNow = self._networks_now
        self._rules = PathRules(ask, self.networks)
        self.links = Links(
            device.public,
            ask,
            self._limits,
            counters,
            admit=self._rules.admit,
            on_stream=self._requests.serve,
            on_wish=self._on_wish,
            on_path=self._on_path,
        )

        self.dht: Dht | None = None
        if config.dht:
            self.dht = Dht(
                DhtMeans(
                    ask,
                    self._limits,
                    counters,
                    clock,
                    self.public,
                    config.dht_visibility,
                    self.networks,
                    self._open_anonymous,
                    lambda device: self.dialer.news(device),
                    lambda device, at, address: self.observed.saw(device, at, address),
                )
            )

    def _departures(self) -> Departures:
        return Departures(self._limits.spread_s, asyncio.get_running_loop().time)

    async def _open_anonymous(self) -> AnonymousEndpoint:
        return await self._sockets.open_anonymous(self.endpoint.address)

    @property
    def mdns(self) -> Mdns | None:
        return None if self._lan is None else self._lan.mdns

    async def start(self, stack: AsyncExitStack) -> None:
        """Raises Fault `port-busy`, `cannot-bind`; what was started is stopped by the stack."""
        config, limits, own = self._config, self._limits, self._device.public
        handlers: dict[str, Handler] = {P2P_ALPN: self.links.serve}
        if self.dht is not None:
            handlers[DHT_ALPN] = self.dht.serve
        self.endpoint = await self._sockets.open(handlers)
        stack.push_async_callback(self._tasks.close, limits.flush_s)
        stack.push_async_callback(self.links.settle)
        stack.push_async_callback(self.endpoint.close)
        self.whereabouts = Whereabouts(
            self._ask,
            self.endpoint.address,
            limits,
            self.counters,
            self._clock,
            self.network_changed,
        )
        self.observed = ObservedAddresses(
            self._ask,
            limits,
            self.whereabouts.observed,
            lambda key: self.links.get(key) is not None,
        )
        stack.callback(self.observed.close)
        if config.mdns and config.lan_visibility is not LanVisibility.OFF:
            interfaces = interfaces_for(config.mdns_interfaces, config.listen)
            mdns = Mdns(own, interfaces=interfaces, clock=self._clock, networks=config.networks)
            self._lan = Lan(mdns, self._ask, limits, self.counters, self._advert, self._announce)
        self.pool = RelayPool(
            self.endpoint, own, limits, self.counters, transport_limits=config.transport_limits
        )
        stack.push_async_callback(self.pool.close)
        self.anonymous = AnonymousRelays(
            self._open_anonymous,
            limits,
            self.counters,
            transport_limits=config.transport_limits,
        )
        stack.push_async_callback(self.anonymous.close)
        stack.push_async_callback(self.links.close)
        others = PeerAddresses(self._ask, self._clock, self._relays_records)
        if self.dht is not None:
            self.dht.start(self.endpoint, stack)
        self.resolver = Resolver(
            others.sources(self.mdns, None if self.dht is None else self.dht.lookups.records),
            clock=self._clock,
            networks=self.networks,
            elsewhere=ELSEWHERE,
            waits_s={RELAY: limits.spread_s},
        )
        candidates = Candidates(self._clock, limits.devices_remembered)
        self.paths = Paths(
            self._ask, self.links, candidates, self.anonymous, self.networks, self._clock
        )
        self.dialer = Dialer(
            self.endpoint,
            self.links,
            self.resolver,
            self._rules,
            candidates,
            limits,
            self.counters,
        )
        self.better_paths = BetterPaths(
            self.links,
            self.dialer,
            self.resolver,
            self._rules,
            self.networks,
            limits,
            self.counters,
        )
        self.dialer.on_news = self.better_paths.news
        self.meetings = Meetings(
            MeetingMeans(
                self._ask,
                self.dialer.dial,
                self.links,
                self.pool,
                self.networks,
                self._meeting_addresses,
                self._departures(),
                limits,
                self.counters,
            )
        )
        self.dialer.meet = self.meetings.arrange
        stack.push_async_callback(self.meetings.close)
        if self._lan is not None:
            self.dialer.on_silence = self._lan.silent
        stack.push_async_callback(self.dialer.close)
        stack.push_async_callback(self.better_paths.close)
        departures = self._departures()
        self.obtainer = Obtainer(
            self._ask,
            self.links,
            self.dialer,
            self.pool,
            self.anonymous,
            departures,
            limits,
            self.counters,
        )
        moves = RelayMoves(
            self._ask,
            self.obtainer.relay_statement,
            lambda: self.pool.keep,
            limits,
            self.counters,
        )
        stack.push_async_callback(moves.close)
        self.desk = OutcomeDesk(self._ask, self.counters)
        reporting = self._tasks.start(self.desk.run(), name="outcomes")
        stack.callback(reporting.cancel)
        stack.push_async_callback(self.desk.settled_soon)
        self.couriers = Couriers(
            Means(
                self._ask,
                self.links,
                self.dialer,
                self.anonymous,
                departures,
                TokenChoice(limits.peers_rated),
                self.obtainer,
                moves,
                self.desk,
                limits,
                self.counters,
            )
        )
        stack.push_async_callback(self.couriers.close)
        self.own_relays = OwnRelays(
            RelayMeans(
                own,
                self._ask,
                self.pool,
                limits,
                self.counters,
                self._announce,
                self.public,
                self.observed.by_relay,
                self.meetings.invited,
            )
        )
        stack.push_async_callback(self.own_relays.close)
        self.greeter = Greeter(self._ask, self.dialer, limits, self.counters)
        await self._begin(stack)

    async def _begin(self, stack: AsyncExitStack) -> None:
        """Everything is in place: take part."""
        await self._renew_self()
        running = [
            self._tasks.start(self.greeter.run(), name="greeter"),
            self._tasks.start(self.better_paths.run(), name="better-paths"),
        ]
        if self.public:
            await self.whereabouts.publish()
            running.append(self._tasks.start(self.whereabouts.run(), name="addresses"))
            if self._config.port_mapping:
                self.router_port = RouterPort(
                    self.endpoint.address, self.whereabouts, self.counters, self._announce
                )
                self.router_port.start()
                stack.push_async_callback(self.router_port.close)
        if self.dht is not None:
            self.dht.begin()
        if self._lan is not None:
            await self._lan.start(stack, self.dialer, self.links, self._config.bind)
        stack.callback(lambda: [task.cancel() for task in running])
        self.greeter.greet()

    # --- from the engine

    def on_effect(self, effect: Effect) -> None:
        match effect:
            case OutboxReady(devices):
                self.couriers.wake(devices)
            case SummaryReady(device, summary):
                self.links.send_summary(device, Signed.decode(summary, limit=SUMMARY_BYTES))
            case BundleChanged():
                self._tasks.start(self._renew_self(), name="renew")
            case TokensChanged():
                self.own_relays.tell_tokens()
            case KeyPackagesLow():
                self.own_relays.restock()
            case LinkUnwanted(device):
                self.links.drop(device)
            case ContactsChanged():
                if self._lan is not None:
                    self._lan.contacts_changed()
            case PolicyChanged():
                self._tasks.start(self._follow_policy(), name="policy")
            case Counted(reason):
                self.counters[reason] += 1
            case Event():
                raise TypeError("events are for users, not for delivery")

    async def _renew_self(self) -> None:
        """Our relays, bundle or record may be new: connect, publish, and greet."""
        try:
            me, former = await self._ask(WhoAmI()), await self._ask(ListFormerRelays())
            tokens = await self._ask(ReadRelayTokens())
        except Fault as fault:
            log.info("not renewed: %s", fault)
            return
        self.pool.tokens = tokens
        self.own_relays.set(read_relays(me.relays), read_relays(each.relay for each in former))
        self.own_relays.publish()
        if self.dht is not None:
            self.dht.renewed()
        self.greeter.greet()

    async def _follow_policy(self) -> None:
        """Our record may have to say less, or more again."""
        if self.public:
            try:
                await self.whereabouts.publish()
            except (Fault, OSError) as error:
                log.info("not published: %s", error)
        self.dialer.news_of_network()
        if self.dht is not None:
            self.dht.policy_changed()
        if self._lan is not None:
            self._lan.moved()

    async def _on_wish(self, link: Link, wish: BundleWish) -> None:
        await self.obtainer.wish(link, wish)

    async def _on_meeting(self, link: Link, request: MeetRequest | Meet) -> tuple[Address, ...]:
        return await self.meetings.answer(link, request)

    def _on_path(self, device: DeviceKey, link: Link | None) -> None:
        self._tasks.start(self._tell_path(device, link), name="path")
        if link is not None:
            self._tasks.start(self.observed.by_link(link), name="observed")

    async def _tell_path(self, device: DeviceKey, link: Link | None) -> None:
        try:
            self._announce(await self.paths.changed(device, link))
        except Fault as fault:
            log.debug("a path's change is not told: %s", fault)

    # --- where we are

    def _networks_now(self) -> OwnNetworks:
        return replace(self._config.networks(), seen_at=self.observed.hosts())

    def _meeting_addresses(self) -> tuple[Address, ...]:
        """Whoever meets us learns also what nobody else has confirmed."""
        try:
            own = self.whereabouts.addresses()
        except OSError:
            own = ()
        return tuple(dict.fromkeys((*self.observed.candidates(), *(each.address for each in own))))

    def network_changed(self) -> None:
        """Paths may be open that were not: failures of the past do not count, and we greet."""
        self._announce(Event("network-changed", {}))
        self.observed.forget()
        self.endpoint.strangers.forget()
        self.own_relays.moved()
        self.better_paths.moved()
        self.pool.prove()
        self.anonymous.network_changed()
        if self.dht is not None:
            self.dht.network_changed()
        self.dialer.news_of_network()
        self.greeter.greet()
        if self._lan is not None:
            self._lan.moved()
        if self.router_port is not None:
            self.router_port.network_changed()

    async def _advert(self) -> Advert | None:
        if not self.public:
            return None
        own = self.whereabouts.adapters(link_local=True)
        shown_to = self._config.lan_visibility
        return await advert_of(
            self._ask, self._device.public, [each.address for each in own], shown_to
        )

    async def _relays_records(self, device: DeviceKey) -> tuple[Signed, ...]:
        return tuple(await self.obtainer.endpoint_records(device))


@asynccontextmanager
async def open_delivery(
    device: KeyPair[DeviceKey],
    ask: Ask,
    config: DeliveryConfig,
    *,
    counters: Counter[str],
    clock: Callable[[], float] = time.time,
    announce: Callable[[Event], None] = lambda event: None,
) -> AsyncIterator[Delivery]:
    """Delivery for the length of the block; inside `transport.kj_loop()`.

    `announce` gets the events that delivery itself has for users: mailbox-full, port-mapping.

    Raises Fault `port-busy`, `cannot-bind`.
    """
    async with AsyncExitStack() as stack:
        delivery = Delivery(device, ask, config, counters, clock, announce)
        await delivery.start(stack)
        yield delivery
