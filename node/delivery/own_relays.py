"""Our own relays: each one kept connected, told what is new of us, and its mailbox read."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any

from node.delivery.asking import Ask
from node.delivery.limits import DeliveryLimits
from node.delivery.mailbox import Mailbox
from node.delivery.publish import (
    UNKNOWN_METHOD,
    publish_records,
    publish_relays,
    top_up,
    upload_last_resort,
)
from node.delivery.relay_client import RelayClient, RelayRefused
from node.delivery.relay_pool import RelayPool
from node.delivery.relay_processes import followed
from node.delivery.token_news import TokenNews
from node.engine.relay_commands import FollowRelay, FormerRelayEmpty
from node.engine.values import Event
from schemas.addresses import Address, RelayAddress, each_once
from schemas.errors import Fault
from schemas.ids import DeviceKey
from schemas.node_service import StoredParcel
from transport import Connection
from transport.pauses import doubled, spread
from transport.rpc_guard import RpcError
from transport.supervise import Supervisor

log = logging.getLogger(__name__)


OnSeen = Callable[[Connection, Address], None]
OnInvited = Callable[[Connection, DeviceKey, tuple[Address, ...]], Awaitable[tuple[Address, ...]]]


@dataclass(frozen=True, slots=True)
class RelayMeans:
    """What keepers work with. Not `public`: no endpoint record, KeyPackages only on demand.

    `on_seen`: that relay sees us there; `on_invited`: by that relay a device asks us to dial it at
    these addresses, and gets ours, if we do.
    """

    own: DeviceKey
    ask: Ask
    pool: RelayPool
    limits: DeliveryLimits
    counters: Counter[str]
    announce: Callable[[Event], None]
    public: bool
    on_seen: OnSeen
    on_invited: OnInvited


class OwnRelays:
    """A task per relay of ours."""

    def __init__(self, means: RelayMeans) -> None:
        self._means = means
        self._keepers: dict[DeviceKey, _Keeper] = {}
        self._tasks = Supervisor(self._crashed)

    @property
    def addresses(self) -> list[RelayAddress]:
        """In the order of preference."""
        return [keeper.address for keeper in self._keepers.values() if not keeper.former]

    def set(self, relays: Iterable[RelayAddress], former: Iterable[RelayAddress] = ()) -> None:
        """These are our relays now; the `former` ones are read on, and nothing else."""
        ours = {relay.device: relay for relay in each_once(relays)}
        wanted = {relay.device: relay for relay in former} | ours
        for device in [device for device in self._keepers if device not in wanted]:
            self._keepers.pop(device).stop()
        fresh = {}
        for device, address in wanted.items():
            keeper = self._keepers.get(device)
            if keeper is None:
                keeper = _Keeper(address, self._means)
                keeper.task = self._tasks.start(keeper.run(), name="own-relay")
            else:
                keeper.is_at(address)
            keeper.become(former=device not in ours)
            fresh[device] = keeper
        self._keepers = {device: fresh[device] for device in wanted | ours}
        self._means.pool.keep = tuple(wanted.values())

    def refused_since(self, address: RelayAddress) -> int | None:
        """Since when that relay of ours has refused parcels for us, our mailbox being full."""
        keeper = self._keepers.get(address.device)
        return None if keeper is None else keeper.refused_since

    def trouble(self, address: RelayAddress) -> str | None:
        """Why we do not have that relay of ours as it should be; the code of a Fault."""
        keeper = self._keepers.get(address.device)
        return None if keeper is None else keeper.trouble

    def try_again(self, address: RelayAddress) -> None:
        """That relay of ours may let us in now."""
        keeper = self._keepers.get(address.device)
        if keeper is not None:
            keeper.try_again()

    def publish(self) -> None:
        """Our bundle or endpoint record is new."""
        for keeper in self._keepers.values():
            keeper.publish()

    def tell_tokens(self) -> None:
        """Other delivery tokens open our mailboxes now."""
        for keeper in self._keepers.values():
            self._tasks.start(keeper.token_news.changed(), name="token-news")

    def restock(self) -> None:
        """A KeyPackage of ours was used up."""
        for keeper in self._keepers.values():
            keeper.restock()

    def moved(self) -> None:
        """We may be on another network: where do they see us?"""
        for keeper in self._keepers.values():
            keeper.moved()

    async def looked(self, deadline_s: float) -> None:
        """Wait until each mailbox was read once since the start, or the deadline."""
        waits = [asyncio.ensure_future(k.looked.wait()) for k in self._keepers.values()]
        if waits:
            _, late = await asyncio.wait(waits, timeout=deadline_s)
            for wait in late:
                wait.cancel()

    async def close(self) -> None:
        for keeper in self._keepers.values():
            keeper.stop()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._means.limits.flush_s):
                await asyncio.gather(*(each.last_words() for each in self._keepers.values()))
        await self._tasks.close(self._means.limits.flush_s)

    def _crashed(self, name: str) -> None:
        self._means.counters[f"{name}-crashed"] += 1


class _Keeper:
    """One relay of ours, for as long as it is ours."""

    def __init__(self, address: RelayAddress, means: RelayMeans) -> None:
        self.address = address
        self.means = means
        self._limits = means.limits
        self._counters = means.counters
        self._mailbox = Mailbox(means.own, means.ask, means.limits, means.counters)
        self._subscribed = False
        self._pushes = True  # until the relay says that it does not know how
        self._told_full: int | None = None
        self._unpublished = True
        self._unseen = True
        self._unstocked = means.public
        self._no_last_resort = means.public
        self._list_due = 0.0  # loop time
        self.former = False  # it was ours: read on, until the engine lets it go
        self.trouble: str | None = None  # the code of the last Fault, while it lasts
        self._refusals = 0  # in a row
        self._stir = asyncio.Event()
        self.token_news = TokenNews(means.ask, means.limits, self._stir.set)
        self._client: RelayClient | None = None
        self.looked = asyncio.Event()
        self.task: asyncio.Task[None] | None = None

    @property
    def refused_since(self) -> int | None:
        return self._mailbox.refused_since

    def is_at(self, address: RelayAddress) -> None:
        """It is the same relay; its processes may be others."""
        if address != self.address:
            self.address = address
            self._stir.set()

    def try_again(self) -> None:
        self._refusals = 0
        self.publish()

    def become(self, *, former: bool) -> None:
        """Ours, or one that was."""
        if former != self.former:
            self.former = former
            self._unstocked = self._no_last_resort = self.means.public
            self.publish()

    def publish(self) -> None:
        self._unpublished = True
        self._stir.set()

    def restock(self) -> None:
        self._unstocked = True
        self._stir.set()

    def moved(self) -> None:
        self._unseen = True
        self._stir.set()

    def stop(self) -> None:
        if self.task is not None:
            self.task.cancel()

    async def last_words(self) -> None:
        """After the end: while we are away, who has a new token finds the mailbox open."""
        if self._client is None or self._client.connection.closed:
            return
        try:
            await self.token_news.tell(self._client, now=True)
        except Fault as fault:
            self._counters[f"own-relay-{fault.code}"] += 1

    async def run(self) -> None:
        while True:
            client: RelayClient | None = None
            try:
                client = await self.means.pool.client(self.address)
                if client is not self._client:
                    self._client = client
                    self._subscribed, self._pushes = False, True
                    self._mailbox.reset()
                    self._unpublished = True  # it may have been restored from yesterday
                    self.token_news.connected()
                    self._unseen = True
                await self._look(client)
                self.looked.set()
                await self._subscribe(client)
                await self._ask_where(client)
                await self._tell_news(client)
                await self._follow_processes(client)
            except Fault as fault:
                self._counters[f"own-relay-{fault.code}"] += 1
                log.info("our relay %r: %s", self.address, fault)
                self._note_trouble(fault)
                client = None
                wait = max(self.means.pool.retry_in(self.address), self._pause_s(fault))
            else:
                self.trouble, self._refusals = None, 0
                wait = self._limits.check_push_s if self._subscribed else self._limits.poll_s
                for due_in in (
                    self._mailbox.due_in(),
                    self.means.pool.better_in(self.address, client),
                ):
                    wait = wait if due_in is None else min(wait, due_in)
            await self._rest(client, wait)

    def _note_trouble(self, fault: Fault) -> None:
        if fault.code != self.trouble and isinstance(fault, RelayRefused):
            relay = str(self.address)
            event = {"relay": relay, "reason": fault.code, "hint": fault.hint}
            self.means.announce(Event("relay-refuses", dict[str, object](event)))
        self.trouble = fault.code
        if self.former:
            self.looked.set()  # it may be gone for good: commands do not wait for it

    def _pause_s(self, fault: Fault) -> float:
        """A relay that answers no is asked ever more seldom, or when it says so."""
        limits = self._limits
        if not isinstance(fault, RelayRefused):
            return limits.relay_retry_first_s
        pause = doubled(limits.relay_retry_first_s, self._refusals, limits.check_push_s)
        self._refusals += 1
        return max(pause, min(fault.retry_after_s, limits.check_push_s))

    async def _look(self, client: RelayClient) -> None:
        """Also while it pushes, now and then: it may have forgotten that we wait."""
        if await self._mailbox.read(client) and self._subscribed:
            self._counters["push-missed"] += 1
            self._subscribed = False
        if self.former and self._mailbox.empty:
            await self.means.ask(FormerRelayEmpty(str(self.address)))
        full = self._mailbox.refused_since
        if full is not None and full != self._told_full:
            self.means.announce(Event("mailbox-full", {"relay": str(self.address), "since": full}))
        self._told_full = full

    async def _subscribe(self, client: RelayClient) -> None:
        if self._subscribed or not self._pushes:
            return

        try:
            await client.subscribe(self._mailbox.seen, _Subscriber(self, client))
        except Fault as fault:
            if fault.code not in UNKNOWN_METHOD:
                raise
            self._pushes = False  # an older relay: it is asked instead
        else:
            self._subscribed = True

    async def take(self, client: RelayClient, parcels: tuple[StoredParcel, ...]) -> None:
        """They were pushed. Raises RpcError `moved`, which ends that, when we are elsewhere by now:
        the relay's other process pushes them, too."""
        if client is not self._client:
            raise RpcError("moved")
        try:
            await self._mailbox.pushed(client, parcels)
        except Fault as fault:
            # The mailbox still has them: the next look and subscription begin anew.
            self._counters[f"push-{fault.code}"] += 1
            if client is self._client:
                self._subscribed = False
                self._mailbox.reset()
                self._stir.set()

    async def _ask_where(self, client: RelayClient) -> None:
        """A relay that pushes is asked with each look, which is once a minute; another one once."""
        if not (self._unseen or self._subscribed):
            return
        self._unseen = False
        try:
            self.means.on_seen(client.connection, await client.observe_address())
        except Fault as fault:
            if fault.code not in UNKNOWN_METHOD:
                raise

    async def _follow_processes(self, client: RelayClient) -> None:
        """A relay says which processes it has; whoever writes to us is to know that, too."""
        now, limits = asyncio.get_running_loop().time(), self._limits
        if now < self._list_due:
            return
        self._list_due = now + spread(limits.relay_list_s)
        told = (await client.health()).processes
        processes = followed(told, client.address.address, client.connection.remote.host)
        if processes and set(processes) != set(self.address.processes):
            self._counters["relay-list-changed"] += 1
            await self.means.ask(FollowRelay(str(self.address.at(processes))))

    async def _rest(self, client: RelayClient | None, wait_s: float) -> None:
        """Until there is something to do, the relay is gone, or the time is over."""
        waits: list[asyncio.Future[Any]] = [asyncio.ensure_future(self._stir.wait())]
        if client is not None:
            waits.append(asyncio.ensure_future(client.connection.wait_closed()))
        try:
            await asyncio.wait(waits, timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        self._stir.clear()

    async def _tell_news(self, client: RelayClient) -> None:
        await self.token_news.tell(client)
        if self._unpublished:
            self._unpublished = False
            try:
                if self.former:
                    await publish_relays(self.means.ask, client)
                else:
                    await publish_records(self.means.ask, client, endpoint=self.means.public)
            except Fault:
                self._unpublished = True
                raise
        if self.former:
            return
        if self._no_last_resort:
            await upload_last_resort(self.means.ask, client)
            self._no_last_resort = False
        if self._unstocked:
            self._unstocked = False
            try:
                await top_up(self.means.ask, client, self._limits)
            except Fault:
                self._unstocked = True
                raise


class _Subscriber:
    """What a relay pushes by one connection, as RelayClient wants it."""

    def __init__(self, keeper: _Keeper, client: RelayClient) -> None:
        self._keeper = keeper
        self._client = client

    async def take(self, parcels: tuple[StoredParcel, ...]) -> None:
        await self._keeper.take(self._client, parcels)

    def observed(self, address: Address) -> None:
        self._keeper.means.on_seen(self._client.connection, address)

    async def meet(self, device: DeviceKey, addresses: tuple[Address, ...]) -> tuple[Address, ...]:
        return await self._keeper.means.on_invited(self._client.connection, device, addresses)
