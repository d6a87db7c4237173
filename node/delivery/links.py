"""All links of this node: at most one per device in use, told to the engine as they come and go."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

from node.delivery.asking import Ask
from node.delivery.handshake import shake_hands
from node.delivery.limits import DeliveryLimits
from node.delivery.link import Link
from node.delivery.rates import Rates
from node.engine.blocking import Away
from node.engine.delivery_commands import (
    BundleWish,
    LinkDown,
    LinkUp,
    Retry,
)
from schemas.errors import Blame, Fault, Refused
from schemas.ids import DeviceKey
from schemas.records import Signed
from transport import CloseCode, Connection, ConnectionLost, Stream
from transport.supervise import Supervisor

STOPPING: Final = "the node stops"

log = logging.getLogger(__name__)

OnStream = Callable[[Link, Stream], Awaitable[None]]
Admit = Callable[[Connection], Awaitable[None]]
OnPath = Callable[[DeviceKey, Link | None], None]
OnWish = Callable[[Link, BundleWish], Awaitable[None]]


class Links:
    """The devices that we are linked to.

    `serve` is the transport's handler of accepted connections; `adopt` takes a dialled one, of
    several at once only one. When both sides dial at once, the link dialled by the lower device key
    survives; a link that was dialled in place of another survives that one. The other finishes what
    is under way on it.
    `admit` raises Fault for a proven peer that gets no link; `on_path` hears which link is in use
    with a device, None when there is none left.
    """

    def __init__(
        self,
        own: DeviceKey,
        ask: Ask,
        limits: DeliveryLimits,
        counters: Counter[str],
        *,
        admit: Admit,
        on_stream: OnStream,
        on_wish: OnWish,
        on_path: OnPath,
    ) -> None:
        self._own = own
        self._ask = ask
        self._limits = limits
        self._counters = counters
        self._admit = admit
        self._on_path = on_path
        self._on_stream = on_stream
        self._on_wish = on_wish
        self._garbage = Rates(
            burst=limits.garbage_burst,
            every_s=limits.garbage_every_s,
            remembered=limits.peers_rated,
            clock=asyncio.get_running_loop().time,
        )
        self._links: dict[DeviceKey, Link] = {}
        self._alive: Counter[DeviceKey] = Counter()  # connections, also those not yet greeted
        self._told: set[DeviceKey] = set()  # the engine knows that they are linked
        self._dialed: dict[DeviceKey, asyncio.Future[Link]] = {}  # the last that came to `adopt`
        self._waiting: dict[DeviceKey, set[asyncio.Future[None]]] = {}
        self._tasks = Supervisor(self._crashed)
        self._closing = False

    def get(self, device: DeviceKey) -> Link | None:
        """The link in use, or None."""
        link = self._links.get(device)
        return None if link is None or link.closed else link

    def all(self) -> list[Link]:
        return [link for link in self._links.values() if not link.closed]

    def watch(self, device: DeviceKey) -> asyncio.Future[None]:
        """Done when a link to the device is up; cancel it when it is no longer of interest."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self.get(device) is not None:
            waiter.set_result(None)
            return waiter
        waiters = self._waiting.setdefault(device, set())
        waiters.add(waiter)

        def forget(_: object) -> None:
            waiters.discard(waiter)
            if not waiters and self._waiting.get(device) is waiters:
                del self._waiting[device]

        waiter.add_done_callback(forget)
        return waiter

    async def serve(self, connection: Connection) -> None:
        """Serve an accepted connection for its life."""
        try:
            await self._live(connection, None, 0)
        except ConnectionLost:
            pass  # also before the hello: nothing to say about it
        except Fault as fault:
            self._refuse(connection, fault)

    async def adopt(self, connection: Connection, *, instead_of: Link | None = None) -> Link:
        """Serve a dialled connection in the background; returns when it is greeted.

        Several dials of a device take turns, and who finds in its turn that there is a link closes
        its connection and returns that one: to the peer, which may see them in another order, a
        second hello says that the first link is lost. A turn ends after `dial_turn_s`: the peer
        does not wait for ever for the next one's hello. Raises the Fault that ended the greeting.
        """
        generation = 0 if instead_of is None else instead_of.generation + 1
        ready: asyncio.Future[Link] = asyncio.get_running_loop().create_future()
        self._tasks.start(self._live_dialed(connection, ready, generation), name="link")
        return await asyncio.shield(ready)

    def send_summary(self, device: DeviceKey, summary: Signed) -> None:
        """Send a summary on the link, if there is one; the engine handles it if there is none."""
        link = self.get(device)
        if link is None:
            self._counters["summary-dropped"] += 1
        else:
            self._tasks.start(link.send_summary(summary), name="summary")

    def drop(self, device: DeviceKey) -> None:
        """End the link to this device; to it, this node stops."""
        link = self.get(device)
        if link is not None:
            link.close(STOPPING)

    async def close(self) -> None:
        """Flush and close all links; their parcels get their outcomes."""
        self._closing = True
        links = self.all()
        if links:
            await asyncio.gather(*(link.flush() for link in links))
        for link in links:
            link.close(STOPPING)
        await self.settle()

    async def settle(self) -> None:
        """Wait for what ends of links have started; once more after the endpoint has closed."""
        await self._tasks.close(self._limits.flush_s)

    # --- one connection's life

    async def _live_dialed(
        self, connection: Connection, ready: asyncio.Future[Link], generation: int
    ) -> None:
        device = connection.peer
        before = self._dialed.get(device)
        self._dialed[device] = ready
        try:
            if before is not None:
                await asyncio.wait({before}, timeout=self._limits.dial_turn_s)
            link = self.get(device)
            if link is not None and link.generation >= generation:
                ready.set_result(link)
            else:
                await self._live(connection, ready, generation)
        except Fault as fault:
            if not isinstance(fault, ConnectionLost):
                self._refuse(connection, fault)
            if not ready.done():
                ready.set_exception(fault)
                ready.exception()  # retrieved: whoever dialled may have gone
        finally:
            connection.close_now(CloseCode.NORMAL)
            if not ready.done():
                ready.cancel()
            if self._dialed.get(device) is ready:
                del self._dialed[device]

    async def _live(
        self, connection: Connection, ready: asyncio.Future[Link] | None, generation: int
    ) -> None:
        device = connection.peer
        if device == self._own:
            raise Refused("own-device", "this node dialled itself")
        if self._closing or self._alive[device] >= self._limits.links_per_device:
            raise Refused("too-many-links", "this device has enough links", blame=Blame.PEER)
        self._alive[device] += 1
        try:
            await self._admit(connection)
            greeting = await shake_hands(connection, self._ask, self._limits, generation=generation)
            link = Link(
                connection,
                greeting,
                self._own,
                self._ask,
                self._limits,
                self._counters,
                self._garbage,
            )
            # In use before the engine knows: what it sends at once must find the link.
            self._register(link)
            self._told.add(device)
            try:
                wish = await self._ask(LinkUp(device, greeting.hello))
                await self._admit(connection)  # the user may have changed it during the hello
            except Fault:
                self._unregister(link)
                raise
            if ready is not None and not ready.done():
                ready.set_result(link)
            self._tasks.start(self._after_greeting(link, wish), name="greeting")
            requests = self._tasks.start(self._accept_streams(link), name="requests")
            try:
                await link.run()
            finally:
                self._unregister(link)
                requests.cancel()
        finally:
            self._alive[device] -= 1
            if not self._alive[device]:
                del self._alive[device]
                if device in self._told:
                    self._tasks.start(self._tell_down(device), name="link-down")

    async def _after_greeting(self, link: Link, wish: BundleWish | None) -> None:
        try:
            await self._ask(Retry(link.peer))
            if wish is not None:
                await self._on_wish(self.get(link.peer) or link, wish)
        except Fault as fault:
            self._counters[f"wish-{fault.code}"] += 1
            log.info("%r: its bundle did not come: %s", link, fault)

    async def _tell_down(self, device: DeviceKey) -> None:
        if self._alive[device] or device not in self._told:
            return
        self._told.remove(device)
        try:
            await self._ask(LinkDown(device))
        except Fault as fault:
            log.info("the engine was not told that a link ended: %s", fault)

    async def _accept_streams(self, link: Link) -> None:
        """Short streams that the peer opens, each one request."""
        running: set[asyncio.Task[None]] = set()
        while True:
            try:
                stream = await link.connection.accept_stream()
            except ConnectionLost:
                return
            if len(running) >= self._limits.requests_at_once:
                self._counters["request-too-many"] += 1
                stream.cancel()
                continue
            task = self._tasks.start(self._serve_stream(link, stream), name="request")
            running.add(task)
            task.add_done_callback(running.discard)

    async def _serve_stream(self, link: Link, stream: Stream) -> None:
        with link.requesting():
            await self._on_stream(link, stream)

    # --- one link per device

    def _register(self, link: Link) -> None:
        old = self.get(link.peer)
        if old is None:
            self._use(link)
        elif link.generation > old.generation:
            self._use(link)
            self._retire(old)
        elif link.generation < old.generation:
            self._tasks.start(self._settle_rivals(old, link), name="rivals")
        elif old.dialed == link.dialed:
            # Its dialer has lost the old one, or it would not have said hello again: see `adopt`.
            self._use(link)
            old.close("replaced by a newer link")
        elif self._survives(link):
            self._use(link)
            self._retire(old)
        else:
            self._tasks.start(self._settle_rivals(old, link), name="rivals")

    def _survives(self, link: Link) -> bool:
        """Both ends agree: the link dialled by the lower device key."""
        return link.dialed == (self._own < link.peer)

    async def _settle_rivals(self, better: Link, newer: Link) -> None:
        """The rule prefers the older link; a peer that restarted no longer has it, though."""
        try:
            await better.ping()
        except Fault:
            self._counters["link-dead-rival"] += 1
            if self._links.get(newer.peer) not in (None, better):
                self._retire(newer)  # a better one came meanwhile
                return
            if not newer.closed:
                self._use(newer)
            better.close("replaced by a newer link")
            await self._tell_again(newer)
        else:
            self._retire(newer)

    async def _tell_again(self, link: Link) -> None:
        """Receipts that went into the dead link are due again; parcels have their outcomes."""
        try:
            await self._ask(LinkUp(link.peer, link.hello))
        except Fault as fault:
            log.info("the engine was not told which link works: %s", fault)

    def _retire(self, link: Link) -> None:
        self._counters["link-retired"] += 1
        link.retired = True
        self._tasks.start(self._see_out(link), name="retire")

    async def _see_out(self, link: Link) -> None:
        """Close a retired link when nothing is under way on it; its dialer does, if it can."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._limits.retire_deadline_s):
                await (self._finish(link) if link.dialed else link.connection.wait_closed())
        link.close("another link to the same device survives")

    async def _finish(self, link: Link) -> None:
        """Returns when neither side needs the link any more, or it has ended."""
        deadline_s, quiet_s = self._limits.retire_deadline_s, self._limits.retire_quiet_s
        better = self.get(link.peer)
        with suppress(Fault):  # one of the two ended: no reason to keep the other, nor to end it
            if better is not None:
                await better.ping(deadline_s)  # from here on the peer uses that one, too
            await link.ping(deadline_s)  # and what it had written on this one before is here
        while not link.closed:
            left_s = link.last_used_at + quiet_s - asyncio.get_running_loop().time()
            if link.idle and left_s <= 0:
                return
            await asyncio.sleep(max(left_s, quiet_s / 4))

    def _use(self, link: Link) -> None:
        self._links[link.peer] = link
        self._on_path(link.peer, link)
        for waiter in list(self._waiting.get(link.peer, ())):
            if not waiter.done():
                waiter.set_result(None)

    def _unregister(self, link: Link) -> None:
        if self._links.get(link.peer) is link:
            del self._links[link.peer]
            self._on_path(link.peer, None)

    def _refuse(self, connection: Connection, fault: Fault) -> None:
        self._counters[f"link-{fault.code}"] += 1
        log.info("%r: %s", connection, fault)
        if isinstance(fault, Away):
            connection.close_now(CloseCode.NORMAL, STOPPING)
        else:
            connection.close_now(CloseCode.PROTOCOL, fault.code)

    def _crashed(self, name: str) -> None:
        self._counters[f"{name}-crashed"] += 1
