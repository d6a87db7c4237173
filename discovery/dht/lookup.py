"""One iterative lookup on disjoint paths (Baumgart and Mies, "S/Kademlia", 2007, section 4.4).

Each path has a shortlist of its own and nobody is asked on two, so that whoever lies leads one
path astray. A path ends when the nearest of its shortlist have answered, or when it found what was
looked for; the lookup, when all paths have, or at a bound of messages or time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from discovery.dht.contact import DhtContact
from discovery.dht.limits import DhtLimits
from discovery.dht.shortlist import Asked, Origin, Shortlist
from discovery.dht.watching import LookupEvent, Step, Watch
from schemas.errors import Fault
from schemas.ids import DhtId

_SEED: Final = Origin(None, 0)
_ROUNDING_S: Final = 1e-6  # timers fire that early; where time is virtual, again and again


@dataclass(frozen=True, slots=True)
class Reply:
    """What asking one contact gave: whom it told of (believed), and whether a value that counts."""

    contacts: Sequence[DhtContact]
    found: bool = False


Ask = Callable[[DhtContact], Awaitable[Reply]]
"""Raises Fault when the contact does not answer, or not what was asked."""


@dataclass(frozen=True, slots=True)
class _Request:
    contact: DhtContact
    origin: Origin
    began: float  # the loop's time


@dataclass(slots=True)
class _Path:
    number: int
    shortlist: Shortlist
    running: dict[asyncio.Task[None], _Request] = field(default_factory=dict)
    slow: dict[asyncio.Task[None], _Request] = field(default_factory=dict)
    answered: int = 0
    found: bool = False

    def starves(self, asked: Asked) -> bool:
        """Nobody answered, and there is nobody to ask."""
        return not (self.answered or self.running or self.shortlist.next(asked))


@dataclass(slots=True)
class Outcome:
    """`answered`: nearest first. `slow`: given up when the lookup ended. `messages`: requests."""

    answered: list[DhtContact]
    slow: list[DhtContact]
    messages: int
    too_long: bool


class Lookup:
    """Use once. `run` raises nothing of its own; what `ask` raises beside Fault goes through."""

    def __init__(
        self, target: DhtId, ask: Ask, limits: DhtLimits, watch: Watch | None = None
    ) -> None:
        self._target = int.from_bytes(target, "big")
        self._ask = ask
        self._limits = limits
        self._watch = watch
        self._asked: Asked = set()
        self._answered: list[DhtContact] = []
        self._messages = 0
        self._too_long = False
        self._paths = [
            _Path(
                number,
                Shortlist(self._target, limits.path_width, limits.shortlist, limits.per_prefix),
            )
            for number in range(limits.paths)
        ]

    async def run(self, seeds: Iterable[DhtContact]) -> Outcome:
        """`seeds`, nearest first, are dealt to the paths in turns."""
        self._began = asyncio.get_running_loop().time()
        dealt = list(seeds)
        for path in self._paths:
            path.shortlist.offer(dealt[path.number :: len(self._paths)], _SEED)
        slow: list[DhtContact] = []
        try:
            async with asyncio.timeout(self._limits.lookup_s), asyncio.TaskGroup() as group:
                try:
                    await self._drive(group)
                finally:
                    for path in self._paths:
                        slow += [request.contact for request in path.slow.values()]
                        for task in (*path.running, *path.slow):
                            task.cancel()
        except TimeoutError:
            self._too_long = True
        self._answered.sort(key=lambda contact: contact.long_id ^ self._target)
        return Outcome(self._answered, slow, self._messages, self._too_long)

    async def _drive(self, group: asyncio.TaskGroup) -> None:
        loop = asyncio.get_running_loop()
        while True:
            for path in self._paths:
                self._fill(path, group, loop.time())
            waiting = [path for path in self._paths if not path.found]
            running = [task for path in waiting for task in path.running]
            slow = [task for path in waiting for task in path.slow]
            if not running and not (slow and self._lacks_some()):
                return
            oldest = [request.began for path in waiting for request in path.running.values()]
            timeout = min(oldest) + self._limits.slow_s - loop.time() if oldest else None
            await asyncio.wait(running + slow, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
            for path in waiting:
                self._pass_over(path, loop.time() - self._limits.slow_s + _ROUNDING_S)

    def _lacks_some(self) -> bool:
        """Whether those who are slow are worth waiting for."""
        found = any(path.found for path in self._paths)
        return not found and len(self._answered) < self._limits.store_width

    def _fill(self, path: _Path, group: asyncio.TaskGroup, now: float) -> None:
        while not path.found and len(path.running) < self._limits.in_flight:
            contact = path.shortlist.next(self._asked)
            if contact is None:
                return
            if self._messages == self._limits.lookup_messages:
                self._too_long = True
                return
            self._messages += 1
            self._asked.add(contact.id)
            path.shortlist.mark_contacted(contact)
            request = _Request(contact, path.shortlist.origins[contact.id], now)
            path.running[group.create_task(self._one(path, request))] = request

    def _pass_over(self, path: _Path, before: float) -> None:
        """Forgets what has ended, and stops counting on requests that began `before`."""
        path.slow = {task: each for task, each in path.slow.items() if not task.done()}
        running, path.running = path.running, {}
        for task, request in running.items():
            if task.done():
                continue
            if request.began > before:
                path.running[task] = request
            else:
                path.slow[task] = request
                path.shortlist.failed.add(request.contact.id)

    async def _one(self, path: _Path, request: _Request) -> None:
        contact, hops = request.contact, request.origin.hops + 1
        self._tell(Step.ASKED, path, request)
        try:
            reply = await self._ask(contact)
        except Fault as fault:
            path.shortlist.failed.add(contact.id)
            # Who told of it may have lied about its address: at another, others may ask it.
            self._asked.discard(contact.id)
            self._asked.add(contact)
            self._tell(Step.FAILED, path, request, code=fault.code)
            return
        path.shortlist.failed.discard(contact.id)
        path.answered += 1
        self._answered.append(contact)
        told = self._told(
            path, Origin(contact, hops, request.origin.root or contact.id), reply.contacts
        )
        self._tell(Step.ANSWERED, path, request, told)
        if reply.found:
            path.found = True
            self._tell(Step.FOUND, path, request)

    def _told(self, path: _Path, origin: Origin, contacts: Sequence[DhtContact]) -> int:
        """Contacts stay on the path that heard of them, but for paths that have nobody at all."""
        without = [each for each in self._paths if each is not path and each.starves(self._asked)]
        takers = [path, *without]
        return sum(
            taker.shortlist.offer(contacts[turn :: len(takers)], origin)
            for turn, taker in enumerate(takers)
        )

    def _tell(
        self, step: Step, path: _Path, request: _Request, told: int = 0, code: str = ""
    ) -> None:
        if self._watch is None:
            return
        contact, origin = request.contact, request.origin
        self._watch(
            LookupEvent(
                step,
                path.number,
                contact,
                distance=(contact.long_id ^ self._target).bit_length(),
                hops=origin.hops + 1,
                seconds=asyncio.get_running_loop().time() - self._began,
                teller=origin.teller,
                told=told,
                code=code,
            )
        )
