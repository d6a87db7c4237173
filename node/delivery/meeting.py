"""Meetings: two nodes dial each other in the same moment, told to by somebody whom both can hear.

A NAT lets in only what answers something that went out, so each side's first packet opens the way
for the other's. The packets are QUIC handshakes and nothing else: what a NAT does not expect it
drops, or worse, remembers. They are to cross on the way: who answers waits, before it dials, until
the answer can be there. A round trip to the signaller is as long, to within the time that a packet
takes from one node to the other (the triangle inequality).

Whatever a signaller says is a hint. Addresses are dialled with the device's key pinned, few of
them, at a bounded rate, and only such as the device can have.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from discovery.hosts import is_loopback, usable_host
from discovery.scope import NetworksNow
from node.delivery.asking import Ask
from node.delivery.departures import Departures
from node.delivery.dialer import NOT_HERE
from node.delivery.limits import DeliveryLimits
from node.delivery.link import Link
from node.delivery.links import Links
from node.delivery.obtain import parse_relays
from node.delivery.rates import Rates
from node.delivery.relay_pool import RelayPool
from node.delivery.requests import ask_meeting
from node.engine.delivery_commands import Acquainted, Introducers, LookUpPeer
from node.engine.values import PeerView
from schemas.addresses import Address, RelayAddress
from schemas.errors import Blame, Fault, Refused, Unreachable
from schemas.frames import MEET, Meet, MeetRequest
from schemas.ids import DeviceKey
from schemas.limits import ENDPOINT_ADDRESSES
from schemas.path_policy import PathPolicy
from transport import Connection
from transport.supervise import Supervisor


class Dial(Protocol):
    """As `Dialer.dial`."""

    def __call__(
        self,
        device: DeviceKey,
        addresses: Sequence[Address],
        policy: PathPolicy,
        *,
        instead_of: Link | None = None,
    ) -> Awaitable[Link]: ...


_DIRECT: Final = (PathPolicy.AUTO, PathPolicy.DIRECT_ONLY, PathPolicy.POST_QUANTUM_ONLY)
_EVERYBODY: Final = "everybody"

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class MeetingMeans:
    """What meetings work with. `dial` makes a link over one of the addresses, and raises Fault;
    `own_addresses` gives where we may be, best first. The `departures` are of meetings alone: these
    name us to a relay, so they are not to be at the moment of what names nobody."""

    ask: Ask
    dial: Dial
    links: Links
    pool: RelayPool
    networks: NetworksNow
    own_addresses: Callable[[], Sequence[Address]]
    departures: Departures
    limits: DeliveryLimits
    counters: Counter[str]


class Meetings:
    """`arrange` is for who wants a link, `invited` for whom somebody wants one to, `introduce` for
    whom they both know."""

    def __init__(self, means: MeetingMeans) -> None:
        self._means = means
        limits, clock = means.limits, asyncio.get_running_loop().time
        self._of_signaller = Rates(
            burst=limits.meetings_of_signaller_burst,
            every_s=limits.meetings_of_signaller_every_s,
            remembered=limits.peers_rated,
            clock=clock,
        )
        self._with_device = Rates(
            burst=limits.meetings_with_device_burst,
            every_s=limits.meetings_with_device_every_s,
            remembered=limits.peers_rated,
            clock=clock,
        )
        self._all = Rates(
            burst=limits.meetings_burst, every_s=limits.meetings_every_s, remembered=1, clock=clock
        )
        self._slots = asyncio.Semaphore(limits.dials_at_once)
        self._tasks = Supervisor(lambda name: means.counters.update([f"{name}-crashed"]))

    async def close(self) -> None:
        await self._tasks.close(self._means.limits.flush_s)

    # --- we want a link

    async def arrange(self, device: DeviceKey) -> None:
        """Have `device` dial us while we dial it; returns when we are linked.

        Raises Unreachable `not-here` when nobody could or would tell it to; else as
        `Endpoint.dial`, and the Fault that ended the greeting.
        """
        peer = await self._means.ask(LookUpPeer(device))
        if peer.policy not in _DIRECT:
            raise _not_here()
        asking = {asyncio.ensure_future(each) for each in await self._signallers(peer)}
        dialing: set[asyncio.Future[Link]] = set()
        tried: set[Address] = set()
        fault: Fault = _not_here()
        try:
            while asking or dialing:
                waits: set[asyncio.Future[Any]] = {*asking, *dialing}
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
                for dial in [each for each in dialing if each.done()]:
                    dialing.discard(dial)
                    error = dial.exception()
                    if error is None:
                        return
                    if not isinstance(error, Fault):
                        raise error
                    fault = error
                for asked in [each for each in asking if each.done()]:
                    asking.discard(asked)
                    fresh = [each for each in asked.result() if each not in tried]
                    if fresh:
                        tried.update(fresh)
                        dialing.add(asyncio.ensure_future(self._dial(device, fresh, peer.policy)))
        finally:
            left: set[asyncio.Future[Any]] = {*asking, *dialing}
            for work in left:
                work.cancel()
            await asyncio.gather(*left, return_exceptions=True)
        raise fault

    async def _signallers(self, peer: PeerView) -> list[Coroutine[Any, Any, list[Address]]]:
        """Coroutines that each ask one: where the device is, which dials; nothing, if it is not."""
        limits = self._means.limits
        relays = parse_relays(peer)[: limits.meeting_relays]
        known = await self._means.ask(Introducers(peer.device, bool(relays)))
        links = [link for link in map(self._means.links.get, known) if link is not None]
        able = [link for link in links if MEET in link.hello.features]
        return [
            *(self._by_relay(relay, peer.device) for relay in relays),
            *(self._by_peer(link, peer.device) for link in able[: limits.meeting_peers]),
        ]

    async def _by_relay(self, relay: RelayAddress, device: DeviceKey) -> list[Address]:
        """A relay's processes know each of those that subscribed to it: first the one where the
        device should be, then where it goes when it cannot be there."""
        pool, limits = self._means.pool, self._means.limits
        await self._means.departures.turn(device)
        for process in pool.order(relay, device)[: limits.meeting_processes]:
            try:
                client = await pool.client(process, owner=device)
                found = await client.rendezvous(device, self._own_addresses())
            except Fault as fault:
                self._not_met(process, fault)
            else:
                return self._admitted(found, client.connection)
        return []

    async def _by_peer(self, link: Link, device: DeviceKey) -> list[Address]:
        request = MeetRequest(device, self._own_addresses())
        try:
            found = await ask_meeting(link, request, self._means.limits)
        except Fault as fault:
            return self._not_met(link, fault)
        return self._admitted(found, link.connection)

    def _not_met(self, signaller: object, fault: Fault) -> list[Address]:
        self._means.counters[f"meeting-{fault.code}"] += 1
        log.debug("no meeting by %r: %s", signaller, fault)
        return []

    async def _dial(
        self,
        device: DeviceKey,
        addresses: Sequence[Address],
        policy: PathPolicy,
        old: Link | None = None,
    ) -> Link:
        async with self._slots:
            return await self._means.dial(device, addresses, policy, instead_of=old)

    # --- somebody wants a link to us

    async def invited(
        self, signaller: Connection, device: DeviceKey, addresses: Sequence[Address]
    ) -> tuple[Address, ...]:
        """`signaller` says that `device` dials us, from these addresses: where we are, and we dial
        it; nothing to whom we do not know, and when it is too much."""
        counters = self._means.counters
        if self._of_signaller.take(signaller.peer):
            counters["meeting-rate-limited"] += 1
            return ()
        policy = await self._policy(device)
        if policy not in _DIRECT:
            counters["meeting-declined"] += 1
            return ()
        if self._with_device.take(device) or self._all.take(_EVERYBODY):
            counters["meeting-rate-limited"] += 1
            return ()
        counters["meeting-agreed"] += 1
        admitted = self._admitted(addresses, signaller)
        if admitted:
            work = self._meet_half_way(signaller, device, admitted, policy)
            self._tasks.start(work, name="meeting")
        return self._own_addresses()

    async def _policy(self, device: DeviceKey) -> PathPolicy | None:
        """By which paths it may be reached; None for a stranger."""
        ask = self._means.ask
        try:
            if not await ask(Acquainted(device)):
                return None
            return (await ask(LookUpPeer(device))).policy
        except Fault as fault:
            log.info("no meeting: %s", fault)
            return None

    async def _meet_half_way(
        self,
        signaller: Connection,
        device: DeviceKey,
        addresses: Sequence[Address],
        policy: PathPolicy,
    ) -> None:
        """Dial until linked, whoever dialled."""
        with contextlib.suppress(Fault):  # long enough
            await signaller.ping(self._means.limits.meeting_crossing_s)
        old = self._means.links.get(device)
        work: set[asyncio.Future[Any]] = set()
        if old is None:
            work.add(self._means.links.watch(device))
        else:
            # The peer would not dial if it had our link; a link that works is not given up, though.
            work.add(asyncio.ensure_future(self._prove(old)))
        dial = asyncio.ensure_future(self._dial(device, addresses, policy, old))
        try:
            await asyncio.wait({dial, *work}, return_when=asyncio.FIRST_COMPLETED)
            if dial.done():
                dial.result()
        except Fault as fault:
            self._not_met(device, fault)
        finally:
            for each in (dial, *work):
                each.cancel()
            await asyncio.gather(dial, *work, return_exceptions=True)

    async def _prove(self, link: Link) -> None:
        """Returns when it works; else it ends, and this goes on.

        The meeting may be forged: a link that is only slow keeps the time it needs.
        """
        proof_s = max(self._means.limits.proof_s, 4 * link.connection.round_trip_s)
        try:
            await link.connection.ping(proof_s)
        except Fault:
            link.close("no answer")
            await asyncio.Event().wait()

    # --- over links

    async def answer(self, link: Link, request: MeetRequest | Meet) -> tuple[Address, ...]:
        """A linked device asks to be brought together with another, or on behalf of one.

        Raises Fault: Refused `not-here`, or the engine's.
        """
        if isinstance(request, MeetRequest):
            return await self.introduce(link, request)
        if not await self._means.ask(Acquainted(link.peer)):
            self._means.counters["meeting-declined"] += 1
            return ()
        return await self.invited(link.connection, request.peer, request.addresses)

    async def introduce(self, link: Link, request: MeetRequest) -> tuple[Address, ...]:
        """Tell the device that `link`'s peer wants to meet; the answer is its own.

        Raises Refused `not-here`, after the same time, when it is not linked here, does not want
        to, either is a stranger to us, or the asker would learn of us that we know the other.
        """
        means, loop = self._means, asyncio.get_running_loop()
        until = loop.time() + means.limits.meeting_answer_s
        other = means.links.get(request.peer)
        try:
            if (
                other is None
                or MEET not in other.hello.features
                or self._of_signaller.take(link.peer)
                or not await means.ask(Acquainted(link.peer))
                or not await means.ask(Acquainted(request.peer))
                or not await self._may_know_of(link.peer, request.peer)
            ):
                raise _not_here()
            seen = (link.connection.remote, *request.addresses)
            message = Meet(link.peer, tuple(dict.fromkeys(seen))[:ENDPOINT_ADDRESSES])
            async with asyncio.timeout_at(until):
                found = await ask_meeting(other, message, means.limits)
            if not found:
                raise _not_here()
        except (Fault, TimeoutError) as fault:
            code = fault.code if isinstance(fault, Fault) else "silent"
            means.counters[f"introduction-{code}"] += 1
            await asyncio.sleep(until - loop.time())
            raise Refused(NOT_HERE, "that device cannot be met", blame=Blame.ENVIRONMENT) from None
        return tuple(dict.fromkeys((other.connection.remote, *found)))[:ENDPOINT_ADDRESSES]

    async def _may_know_of(self, asker: DeviceKey, device: DeviceKey) -> bool:
        """Whether it would ask us for `device`, too, if it were us who asks for it: see there."""
        peer = await self._means.ask(LookUpPeer(device))
        return asker in await self._means.ask(Introducers(device, bool(parse_relays(peer))))

    # --- addresses

    def _own_addresses(self) -> tuple[Address, ...]:
        return tuple(self._means.own_addresses())[:ENDPOINT_ADDRESSES]

    def _admitted(self, addresses: Sequence[Address], signaller: Connection) -> list[Address]:
        """Those that the device can have, as far as we can tell, few of each host."""
        networks = self._means.networks()
        hosts = [each.host for each in addresses]
        per_host: Counter[str] = Counter()
        admitted = []
        for address in addresses[:ENDPOINT_ADDRESSES]:
            host = usable_host(address.host, on_link=False)
            if (
                host is None
                or not address.port
                or (is_loopback(host) and not is_loopback(signaller.remote.host))
                or not networks.admits(host, hosts)
                or per_host[host] >= self._means.limits.meeting_addresses_per_host
            ):
                self._means.counters["meeting-address-refused"] += 1
                continue
            per_host[host] += 1
            admitted.append(Address(host, address.port))
        return admitted


def _not_here() -> Unreachable:
    return Unreachable(NOT_HERE, "nobody could bring us together with this device")
