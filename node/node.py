"""The personal node: engine, delivery and discovery composed behind one object."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

import mls_rs

from discovery.scope import NetworksNow, networks_now
from node.delivery.config import DeliveryConfig
from node.delivery.delivery import Delivery, open_delivery
from node.delivery.dht import DhtStatus
from node.delivery.limits import DEFAULT_DELIVERY_LIMITS, DeliveryLimits
from node.delivery.paths import DevicePaths, PathView
from node.engine.commands import (
    AddContact,
    Command,
    CreateDirect,
    FindDirect,
    FindGroup,
    Invite,
    ListContacts,
    SetBootstrap,
    WhoAmI,
)
from node.engine.delivery_commands import PendingCount
from node.engine.engine import Engine
from node.engine.relay_commands import SetRelays
from node.engine.values import ContactView, Effect, Event, GroupView
from node.engine_thread import EngineThread
from node.events import EventHub
from node.finding import Finding
from node.home import open_engine
from node.inviting import gather_key_packages, suite_number
from node.peering import Peering
from node.relay_accounts import RelayAccounts
from node.relaying import Relaying
from node.surroundings import Surroundings
from node.views import (
    FetchedKeyView,
    HealthView,
    KeyHoldingView,
    NetworkView,
    PeerLinkView,
    PingView,
    RegisterView,
    RelayView,
)
from schemas.addresses import Address, BootstrapAddress, RelayAddress
from schemas.errors import Fault
from schemas.ids import DeviceKey, GroupId, IdentityKey
from schemas.visibility import DhtVisibility, LanVisibility
from storage.lock import FolderLock
from transport import DEFAULT_LIMITS, TransportLimits
from transport.udp import Bind

R = TypeVar("R")

_LOOK_AGAIN_S = 0.1


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """How to run a node.

    `listen` None is a command's short-lived node: any free port, not published, not advertised.
    `relays` and `bootstrap` None are as remembered; given, they are remembered. `mdns_interfaces`
    are local addresses such as 127.0.0.1; None is all. `port_mapping` has the router forward our
    port. `post_quantum_only` connects to no peer and no relay that has not X25519MLKEM768. A
    simulation brings `clock` (Unix seconds), `bind`, `networks` and `engine_thread` of its own.
    """

    home: Path
    passphrase: bytes | None = field(default=None, repr=False)  # of an encrypted home
    listen: Address | None = None
    relays: tuple[str, ...] | None = None
    mdns: bool = True
    mdns_interfaces: tuple[str, ...] | None = None
    lan_visibility: LanVisibility = LanVisibility.EVERYONE
    port_mapping: bool = False
    dht: bool = False
    dht_visibility: DhtVisibility = DhtVisibility.PRIVATE
    bootstrap: tuple[str, ...] | None = None
    post_quantum_only: bool = False
    relay_fallback_s: float = 1.0
    bundle_deadline_s: float = 2.0
    limits: DeliveryLimits = DEFAULT_DELIVERY_LIMITS
    transport_limits: TransportLimits = DEFAULT_LIMITS
    clock: Callable[[], float] = time.time
    bind: Bind | None = None
    networks: NetworksNow = networks_now
    engine_thread: Callable[..., EngineThread[Engine]] = EngineThread


class Node:
    """A running node. Made by `running`; ends when that context is left."""

    listen: Address  # where it is bound
    device: DeviceKey
    identity: IdentityKey
    name: str
    relay_accounts: RelayAccounts  # our accounts at relays
    started_at: float  # Unix seconds

    def __init__(self, config: NodeConfig) -> None:
        self._config = config
        self._hub = EventHub()
        self._counters: Counter[str] = Counter()
        self._early: list[Effect] = []
        self._delivery: Delivery | None = None
        self._crash: Fault | None = None
        self._user: asyncio.Task[object] | None = None  # inside `running`
        self._thread = config.engine_thread(
            partial(open_engine, config.home, config.passphrase),
            self._on_effect,
            on_crash=self._on_crash,
            clock=config.clock,
        )
        self.started_at = config.clock()

    @classmethod
    @asynccontextmanager
    async def running(cls, config: NodeConfig) -> AsyncIterator[Node]:
        """Run the node of a home; inside `transport.kj_loop()`.

        Raises Fault `already-running`, `no-account`, `database-newer`, `port-busy`,
        `cannot-bind`; `engine-crashed` out of the block, which is cancelled then; Refused
        `bad-relay`, `bad-bootstrap`, `passphrase-needed`, `wrong-passphrase`.
        """
        for relay in config.relays or ():
            RelayAddress.parse(relay)
        for address in config.bootstrap or ():
            BootstrapAddress.parse(address)
        async with AsyncExitStack() as stack:
            stack.enter_context(FolderLock(config.home))
            node = cls(config)
            await node._start(stack)
            node._user = asyncio.current_task()
            try:
                yield node
            except asyncio.CancelledError:
                if node._crash is None or node._user is None:
                    raise
                node._user.uncancel()
                raise node._crash from None
            finally:
                node._user = None

    async def _start(self, stack: AsyncExitStack) -> None:
        config = self._config
        await self._thread.start()
        stack.push_async_callback(self._thread.stop)
        engine = self._thread.engine
        self.device, self.identity = engine.device.public, engine.identity.public
        if config.relays is not None:
            await self.ask(SetRelays(config.relays))
        if config.bootstrap is not None:
            await self.ask(SetBootstrap(config.bootstrap))
        self.name = (await self.ask(WhoAmI())).name
        delivery_config = DeliveryConfig(
            config.listen,
            config.mdns,
            config.mdns_interfaces,
            dataclasses.replace(config.limits, relay_fallback_s=config.relay_fallback_s),
            config.transport_limits,
            post_quantum_only=config.post_quantum_only,
            bind=config.bind,
            lan_visibility=config.lan_visibility,
            networks=config.networks,
            port_mapping=config.port_mapping,
            dht=config.dht,
            dht_visibility=config.dht_visibility,
        )
        stack.callback(self._hub.close)
        delivery = await stack.enter_async_context(
            open_delivery(
                engine.device,
                self.ask,
                delivery_config,
                counters=self._counters,
                clock=config.clock,
                announce=self._hub.publish,
            )
        )
        self.listen = Address(*delivery.endpoint.address)
        self._relaying = Relaying(self.ask, delivery, self.device, config.clock)
        self.relay_accounts = RelayAccounts(self.ask, delivery, self.device)
        self._peering = Peering(self.ask, delivery)
        self._surroundings = Surroundings(delivery, config.port_mapping)
        self._finding = Finding(self.ask, delivery, self._hub.publish, config.clock)
        self._delivery = delivery
        for effect in self._early:
            delivery.on_effect(effect)
        self._early.clear()

    @property
    def counters(self) -> Counter[str]:
        """What was dropped, refused or went wrong, by reason."""
        counted = self._counters + self._thread.counters
        for reason, count in self._net.endpoint.counters.items():
            counted[f"transport-{reason}"] += count
        if self._net.mdns is not None:
            for reason, count in self._net.mdns.dropped.items():
                counted[f"mdns-{reason}"] += count
        if self._net.dht is not None:
            for reason, count in self._net.dht.counts.items():
                counted[f"dht-{reason}"] += count
        return counted

    async def ask(self, command: Command[R]) -> R:
        """The engine's answer, on disk. Raises the Fault that refuses it."""
        return await self._thread.ask(command)

    def subscribe(self) -> AbstractContextManager[AsyncIterator[Event]]:
        """Events from now on. A slow reader gets Event("lagged", {}) once, then goes on."""
        return self._hub.subscribe()

    @property
    def _net(self) -> Delivery:
        if self._delivery is None:
            raise RuntimeError("the node has not started")
        return self._delivery

    def _on_crash(self, fault: Fault) -> None:
        """Without its engine a node only looks alive: whoever runs it is told, and it ends."""
        self._crash = fault
        if self._user is not None:
            self._user.cancel()

    def _on_effect(self, effect: Effect) -> None:
        if isinstance(effect, Event):
            self._hub.publish(effect)
        elif self._delivery is None:
            self._early.append(effect)
        else:
            self._delivery.on_effect(effect)

    # --- people and groups

    async def add_contact(self, card: str) -> ContactView:
        """AddContact; then tries to get the bundle. Never fails because the peer is away."""
        contact = await self.ask(AddContact(card))
        try:
            async with asyncio.timeout(self._config.bundle_deadline_s):
                await self._net.obtainer.bundle(contact.identity, contact.devices)
        except TimeoutError:
            self._counters["bundle-not-in-time"] += 1
        except Fault as fault:
            self._counters[f"bundle-{fault.code}"] += 1
        for known in await self.ask(ListContacts()):
            if known.identity == contact.identity:
                return known
        return contact

    async def invite(
        self,
        group: GroupId,
        people: Sequence[IdentityKey],
        *,
        admin: bool = False,
        again: bool = False,
    ) -> GroupView:
        """Add people to a group, with KeyPackages from their devices, else from relays.

        With `again` also devices that are members, in place of what they were: they lost it.
        Raises Refused `no-key-package`, Unreachable `unreachable` (both with names), and what
        Invite raises.
        """
        view = await self.ask(FindGroup(group.hex()))
        members = () if again else view.members
        present = {device for member in members for device in member.devices}
        packages = await gather_key_packages(
            self.ask,
            self._net.obtainer,
            list(dict.fromkeys(people)),
            suite_number(view.suite),
            present=present,
        )
        return await self.ask(Invite(group, tuple(people), packages, admin))

    async def direct_group(self, identity: IdentityKey, *, suite: int | None = None) -> GroupView:
        """The one-to-one group with a person, made if there is none. Raises as `invite`."""
        found = await self.ask(FindDirect(identity))
        if found is not None:
            return found
        chosen = mls_rs.HYBRID if suite is None else suite
        packages = await gather_key_packages(self.ask, self._net.obtainer, [identity], chosen)
        return await self.ask(CreateDirect(identity, chosen, packages))

    # --- the network

    async def ping(self, target: str) -> PingView:
        """A person, device or relay. Raises Refused `unknown-person`, Unreachable."""
        return await self._peering.ping(target)

    async def peers(self) -> tuple[PeerLinkView, ...]:
        """Links and LAN peers, links first."""
        return await self._peering.peers()

    async def paths(self, identity: IdentityKey) -> tuple[DevicePaths, ...]:
        """All ways to a person's devices, tried now. Raises Unreachable `unknown-device`."""
        return await self._peering.paths(identity)

    def dht_status(self) -> DhtStatus | None:
        """None: this node takes no part in the DHT."""
        return self._finding.status()

    async def look_up(self, target: str, token: str) -> tuple[PathView, ...]:
        """Where a person's devices, or a device, are by the DHT; events `dht-lookup` tell how.

        Raises Refused `unknown-person`, and as `Finding.look_up`.
        """
        return await self._finding.look_up(await self._peering.devices_of(target), token)

    async def network(self, deadline_s: float) -> NetworkView:
        """NAT, router, DHT and LAN, as soon as they are known, or at the deadline.

        Raises OSError when the system does not say which addresses it has.
        """
        return await self._surroundings.look(deadline_s)

    def network_changed(self) -> None:
        """The machine woke, or is on another network: every path is tried anew, at once."""
        self._net.network_changed()

    # --- relays

    async def health(self, relay: str | None = None) -> tuple[HealthView, ...]:
        """Of one relay (HOST:PORT#KEY), or all of ours. Raises Refused `bad-relay`, `no-relay`."""
        return await self._relaying.health(relay)

    async def relays(self) -> tuple[RelayView, ...]:
        """Ours in their order, then those that were ours and are read still."""
        return await self._relaying.relays()

    async def register(self) -> tuple[RegisterView, ...]:
        """Make KeyPackages and upload them to our relays; one view per suite and relay.

        Raises Refused `no-relay`, or the last Fault when none answers.
        """
        return await self._relaying.register()

    async def refresh_key_package(self) -> tuple[RegisterView, ...]:
        """Replace our last-resort KeyPackages at our relays. Raises as `register`."""
        return await self._relaying.refresh()

    async def fetch_key(
        self, identity: IdentityKey, suite: int | None = None
    ) -> tuple[FetchedKeyView, ...]:
        """Take a KeyPackage of each of a person's devices from a relay.

        Raises Refused `no-key-package`, `no-relay`; Unreachable.
        """
        return await self._relaying.fetch(identity, mls_rs.HYBRID if suite is None else suite)

    async def check_key(self, identity: IdentityKey) -> tuple[KeyHoldingView, ...]:
        """What relays hold for a person, without taking anything. Raises as `fetch_key`."""
        return await self._relaying.check(identity)

    # --- the end

    async def looked(self, deadline_s: float) -> None:
        """Wait until our mailboxes were read once since the start, or the deadline."""
        await self._net.own_relays.looked(deadline_s)

    async def drained(self, deadline_s: float) -> bool:
        """Wait until no parcel is left that has not left this node, nor a receipt that is owed.

        False after `deadline_s`.
        """
        try:
            async with asyncio.timeout(deadline_s):
                while await self.ask(PendingCount(tell=True)) or self._net.couriers.busy:
                    try:
                        async with asyncio.timeout(_LOOK_AGAIN_S):
                            await self._net.desk.progress()
                    except TimeoutError:
                        continue
        except TimeoutError:
            return False
        return True
