"""Direct dialing: who is wanted is dialled in the background until linked, without hammering."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from discovery.resolver import Resolver
from node.delivery.candidates import Candidates
from node.delivery.limits import DeliveryLimits
from node.delivery.link import Link
from node.delivery.links import Links
from node.delivery.path_rules import PathRules
from node.delivery.rates import Rates
from schemas.addresses import AddressKind
from schemas.errors import Fault, Unreachable
from schemas.frames import P2P_ALPN
from schemas.ids import DeviceKey
from schemas.path_policy import PathPolicy
from transport import Address, Endpoint
from transport.pauses import growing
from transport.supervise import Supervisor

NOT_HERE: Final = "not-here"  # nobody can or will bring us together

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Pursuit:
    """What is known about dialling one device. Times are the loop's."""

    failures: int = 0
    not_before: float = 0.0
    wanted_until: float = 0.0
    trying_since: float | None = None  # an attempt is under way
    fault: Fault | None = None  # of the last attempt
    task: asyncio.Task[None] | None = None
    news: asyncio.Event = field(default_factory=asyncio.Event)
    held_back: asyncio.TimerHandle | None = None  # news above the rate
    over: asyncio.Future[None] | None = None  # of the attempt under way
    hoped: asyncio.Future[None] | None = None  # the same, or nobody has answered for a meeting
    dialing: int = 0  # lists of addresses that are being dialled


class Dialer:
    """Dials wanted devices at every address that discovery has for them."""

    def __init__(
        self,
        endpoint: Endpoint,
        links: Links,
        resolver: Resolver,
        rules: PathRules,
        candidates: Candidates,
        limits: DeliveryLimits,
        counters: Counter[str],
    ) -> None:
        self._endpoint = endpoint
        self._links = links
        self._resolver = resolver
        self._rules = rules
        self.candidates = candidates
        self._limits = limits
        self._counters = counters
        self._loop = asyncio.get_running_loop()
        self._pursuits: dict[DeviceKey, _Pursuit] = {}
        self._slots = asyncio.Semaphore(limits.dials_at_once)
        self._news = Rates(
            burst=limits.news_burst,
            every_s=limits.news_every_s,
            remembered=limits.devices_remembered,
            clock=self._loop.time,
        )
        self._tasks = Supervisor(self._crashed)
        self._closing = False
        self.on_silence: Callable[[DeviceKey], None] = lambda device: None
        self.on_news: Callable[[DeviceKey], None] = lambda device: None
        self.meet: Callable[[DeviceKey], Awaitable[None]] = _alone  # as Meetings.arrange

    async def reach(
        self, device: DeviceKey, within_s: float, *, pursue: bool = True, eager: bool = False
    ) -> Link | None:
        """The link to `device`, dialled if need be; None when there is none after `within_s`.

        The time counts from the start of the attempt under way, so that nobody waits for a dead
        address twice; between attempts, and when nobody answers for a meeting, the answer is None
        at once, unless `eager`. With `pursue`, dialing goes on in the background.
        """
        link = self._links.get(device)
        if link is not None or self._closing:
            return link
        pursuit = self._want(device, self._limits.pursue_s if pursue else 0.0)
        if eager:
            self._reset(pursuit)
        started, over = pursuit.trying_since, pursuit.over if eager else pursuit.hoped
        if over is None or started is None:
            return self._links.get(device)
        wait = started + within_s - self._loop.time()
        if eager:
            wait = max(wait, within_s)
        if wait > 0:
            up = self._links.watch(device)
            try:
                await asyncio.wait({up, over}, timeout=wait, return_when="FIRST_COMPLETED")
            finally:
                up.cancel()
        return self._links.get(device)

    def failing(self, device: DeviceKey) -> bool:
        """The last attempt failed, and nothing was heard of the device since."""
        pursuit = self._pursuits.get(device)
        return pursuit is not None and pursuit.failures > 0

    def why_not(self, device: DeviceKey) -> str:
        """The code of the last failed attempt, or that one is under way."""
        pursuit = self._pursuits.get(device)
        fault = None if pursuit is None else pursuit.fault
        return "no-answer" if fault is None else fault.code

    def news(self, device: DeviceKey) -> None:
        """Discovery heard something of the device: failures of the past do not count.

        The device itself makes news, so above a rate they are held back.
        """
        self.on_news(device)
        pursuit = self._pursuits.get(device)
        if pursuit is not None and pursuit.held_back is None:
            self._heed(device, pursuit)

    def news_of_network(self) -> None:
        """Our own addresses changed: so may every path have."""
        for pursuit in self._pursuits.values():
            self._reset(pursuit)

    async def close(self) -> None:
        self._closing = True
        for pursuit in self._pursuits.values():
            if pursuit.held_back is not None:
                pursuit.held_back.cancel()
            if pursuit.task is not None:
                pursuit.task.cancel()
        await self._tasks.close(self._limits.flush_s)

    # --- pursuing

    def _want(self, device: DeviceKey, seconds: float) -> _Pursuit:
        pursuit = self._pursuits.get(device)
        if pursuit is None:
            self._forget_one()
            pursuit = self._pursuits[device] = _Pursuit()
        now = self._loop.time()
        pursuit.wanted_until = max(pursuit.wanted_until, now + seconds)
        if pursuit.task is None and not self._closing:
            pursuit.news.clear()
            if pursuit.not_before <= now:
                self._begin(pursuit)
            task = self._tasks.start(self._pursue(device, pursuit), name="dial")
            pursuit.task = task
            task.add_done_callback(lambda _: self._ended(pursuit))
        return pursuit

    def _ended(self, pursuit: _Pursuit) -> None:
        pursuit.task = None
        self._finish(pursuit)

    def _begin(self, pursuit: _Pursuit) -> None:
        if pursuit.over is None:
            pursuit.trying_since = self._loop.time()
            pursuit.over = self._loop.create_future()
            pursuit.hoped = self._loop.create_future()

    def _finish(self, pursuit: _Pursuit) -> None:
        pursuit.trying_since = None
        for future in (pursuit.over, pursuit.hoped):
            if future is not None and not future.done():
                future.set_result(None)
        pursuit.over = pursuit.hoped = None

    def _heed(self, device: DeviceKey, pursuit: _Pursuit) -> None:
        pursuit.held_back = None
        wait = self._news.take(device)
        if wait:
            pursuit.held_back = self._loop.call_later(wait, self._heed, device, pursuit)
        else:
            self._reset(pursuit)

    def _reset(self, pursuit: _Pursuit) -> None:
        pursuit.failures = 0
        pursuit.not_before = 0.0
        if pursuit.task is not None:
            self._begin(pursuit)
            pursuit.news.set()

    async def _pursue(self, device: DeviceKey, pursuit: _Pursuit) -> None:
        while self._links.get(device) is None:
            await self._wait_for_turn(pursuit)
            if self._links.get(device) is not None:
                break
            self._begin(pursuit)
            pursuit.news.clear()
            try:
                async with self._slots:
                    await self._attempt(device, pursuit)
            except Fault as fault:
                self._fail(device, pursuit, fault)
            else:
                pursuit.failures = 0
                pursuit.not_before = 0.0
                pursuit.fault = None
                break  # should the link end at once, whoever has something to send wants it anew
            again = pursuit.news.is_set()
            if not again:
                self._finish(pursuit)
            if not again and self._loop.time() >= pursuit.wanted_until:
                break

    async def _wait_for_turn(self, pursuit: _Pursuit) -> None:
        wait = pursuit.not_before - self._loop.time()
        if wait > 0:
            try:
                async with asyncio.timeout(wait):
                    await pursuit.news.wait()
            except TimeoutError:
                return

    def _fail(self, device: DeviceKey, pursuit: _Pursuit, fault: Fault) -> None:
        self._counters[f"dial-{fault.code}"] += 1
        pursuit.fault = fault
        if fault.code == "no-answer":
            self.on_silence(device)
        limits = self._limits
        pause = growing(limits.redial_first_s, pursuit.failures, limits.redial_last_s)
        pursuit.failures += 1
        pursuit.not_before = self._loop.time() + pause
        log.debug("dialing %r failed: %s", device, fault)

    async def _attempt(self, device: DeviceKey, pursuit: _Pursuit) -> None:
        """Dial what is known here at once, and what others know when they have said so; and meet.

        Returns when linked, whoever dialled. No message waits long for a meeting that nobody has
        answered yet, and news are followed meanwhile.
        """
        patient_until = self._loop.time() + self._limits.meeting_patience_s
        policy = await self._rules.of(device)
        quick = await self._look_up(device, policy, self._limits.quick_resolve_s)
        up = self._links.watch(device)
        meeting = asyncio.ensure_future(self._meet(device, policy))
        news = asyncio.ensure_future(pursuit.news.wait())
        tries: set[asyncio.Future[Any]] = {
            asyncio.ensure_future(self._dial_rest(device, policy, quick)),
            meeting,
        }
        if quick:
            tries.add(asyncio.ensure_future(self.dial(device, quick, policy)))
        fault: Fault | None = None
        try:
            while tries:
                waits: set[asyncio.Future[Any]] = {up, *tries}
                wait_s = None
                if tries == {meeting}:
                    waits.add(news)
                    left = patient_until - self._loop.time()
                    hoped = pursuit.hoped
                    if left <= 0 and not pursuit.dialing and hoped and not hoped.done():
                        hoped.set_result(None)
                    wait_s = left if left > 0 else None
                await asyncio.wait(waits, timeout=wait_s, return_when="FIRST_COMPLETED")
                if up.done():
                    return
                if tries == {meeting} and news.done():
                    # Not a new meeting: the other side is at this one.
                    pursuit.news.clear()
                    news = asyncio.ensure_future(pursuit.news.wait())
                    tries.add(asyncio.ensure_future(self._dial_rest(device, policy, ())))
                done = {each for each in tries if each.done()}
                tries -= done
                for each in done:
                    error = each.exception()
                    if error is None:
                        return
                    if not isinstance(error, Fault):
                        raise error
                    if fault is None or error.code != "no-address":
                        fault = error
        finally:
            up.cancel()
            news.cancel()
            for each in tries:
                each.cancel()
            if tries:
                await asyncio.gather(*tries, return_exceptions=True)
        raise fault if fault is not None else _no_address()

    async def _dial_rest(
        self, device: DeviceKey, policy: PathPolicy, tried: Sequence[Address]
    ) -> Link:
        full = await self._look_up(device, policy)
        rest = [address for address in full if address not in tried]
        if not rest:
            raise _no_address()
        return await self.dial(device, rest, policy)

    async def _meet(self, device: DeviceKey, policy: PathPolicy) -> Link | None:
        """Both dial in the same moment; else, where nobody can tell the peer to, we alone.

        A packet that comes too early through a NAT may shut it (see meeting.py), so what was
        punched is not dialled before.
        """
        try:
            await self.meet(device)
        except Fault as fault:
            if fault.code != NOT_HERE:
                raise
        else:
            return None
        punched = await self._look_up(device, policy, punched=True)
        if not punched:
            raise _no_address()
        return await self.dial(device, punched, policy)

    async def _look_up(
        self,
        device: DeviceKey,
        policy: PathPolicy,
        quick_s: float | None = None,
        *,
        punched: bool = False,
    ) -> list[Address]:
        """What may be dialled of what is known, `punched` or not; with `quick_s`, known here.

        Raises Refused.
        """
        known = await self._resolver.resolve(device, deadline_s=quick_s)
        self.candidates.found(device, known.found, all_there_is=quick_s is None)
        allowed = self._rules.dialable(policy, known.found)
        return [
            found.address.address
            for found in allowed
            if (found.address.kind is AddressKind.PUNCHED) is punched
        ]

    async def dial(
        self,
        device: DeviceKey,
        addresses: Sequence[Address],
        policy: PathPolicy,
        *,
        instead_of: Link | None = None,
    ) -> Link:
        """A link over whichever address answers first, in place of one that works if need be.

        Raises Fault.
        """
        pursuit = self._pursuits.get(device, _Pursuit())
        pursuit.dialing += 1
        try:
            with self.candidates.attempt(device, addresses) as tried:
                connection = await self._endpoint.dial(
                    addresses,
                    expected=device,
                    alpn=P2P_ALPN,
                    post_quantum_only=policy is PathPolicy.POST_QUANTUM_ONLY,
                    tried=tried,
                )
            return await self._links.adopt(connection, instead_of=instead_of)
        finally:
            pursuit.dialing -= 1

    def _forget_one(self) -> None:
        if len(self._pursuits) >= self._limits.devices_remembered:
            for device, pursuit in self._pursuits.items():
                if pursuit.task is None:
                    del self._pursuits[device]
                    return

    def _crashed(self, name: str) -> None:
        self._counters[f"{name}-crashed"] += 1


async def _alone(_: DeviceKey) -> None:
    raise Unreachable(NOT_HERE, "there is nobody to bring us together")


def _no_address() -> Unreachable:
    return Unreachable(
        "no-address",
        "nobody knows where this device is",
        hint="it may be away; ask for a new card if it stays so",
    )
