"""One node of the DHT: it answers, looks up, publishes, keeps its table; it knows no sockets."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final, TypeVar

from discovery.dht.contact import (
    DhtContact,
    OnOurNetwork,
    believed_untrusted,
    node_id,
    worth_telling,
)
from discovery.dht.limits import DEFAULT_DHT_LIMITS, DhtLimits
from discovery.dht.lookup import Lookup, Reply
from discovery.dht.newcomers import Newcomers
from discovery.dht.rpc import Asker, Rpc
from discovery.dht.store import ValueStore
from discovery.dht.table import Bucket, Table
from discovery.dht.value import is_public, read_value_untrusted
from discovery.dht.watching import Watch
from schemas.dht import (
    Contacts,
    DhtError,
    DhtResponse,
    FindNode,
    FindValue,
    Store,
    Stored,
    ToldContact,
    Values,
)
from schemas.errors import Fault, Malformed, Refused, Unreachable
from schemas.ids import DeviceKey, DhtId
from schemas.limits import DHT_CONTACTS, DHT_VALUES
from schemas.records import Signed

T = TypeVar("T")

TOO_LONG: Final = "lookup-too-long"
NOT_BELIEVED: Final = "address-not-believed"
CLIENT_ONLY: Final = "client-only"


class DhtNode:
    """`clock` gives Unix seconds; deadlines are in the running loop's time.

    `server`: whether this node answers and says so (others may keep it in their tables); a node
    that nobody reaches is a client only, and answers nothing. May be switched at any time.
    `counts[reason]`: what was refused, not believed or given up; codes of Faults, and those above.
    """

    def __init__(
        self,
        device: DeviceKey,
        rpc: Rpc,
        *,
        clock: Callable[[], float],
        rng: random.Random,
        on_our_network: OnOurNetwork,
        server: bool = False,
        limits: DhtLimits = DEFAULT_DHT_LIMITS,
    ) -> None:
        self.id = node_id(device)
        self.server = server
        self.counts: Counter[str] = Counter()
        self._device = device
        self._place = int.from_bytes(self.id, "big")
        self._rpc = rpc
        self._clock = clock
        self._rng = rng
        self._on_our_network = on_our_network
        self._limits = limits
        self._table = Table(self.id, limits)
        self._values = ValueStore(limits)
        self._newcomers = Newcomers(limits)
        self._seeds: dict[DhtContact, None] = {}
        self._looked_around = 0.0  # when our own neighbourhood was looked up, Unix seconds

    @property
    def values_kept(self) -> int:
        """For others."""
        return len(self._values)

    # --- as a server

    def answer(self, asker: Asker, request: FindNode | FindValue | Store) -> DhtResponse:
        """Never raises: what is refused is a DhtError with its code."""
        if not self.server:
            return self._refuse(CLIENT_ONLY, "this node answers nobody")
        match request:
            case FindNode(target, announce):
                if announce:
                    self._hear_of(asker)
                return Contacts(self._tell(asker, target))
            case FindValue(key):
                found = self._values.get(key, self._clock())
                return Values(found, self._tell(asker, key))
            case Store(key, value):
                try:
                    self._values.put(key, value, asker.address, self._clock())
                except (Malformed, Refused) as fault:
                    return self._refuse(fault.code, fault.message)
                return Stored()

    def _refuse(self, code: str, message: str) -> DhtError:
        self.counts[code] += 1
        return DhtError(code, message)

    def _hear_of(self, asker: Asker) -> None:
        contact = believed_untrusted(asker, asker.address, self._on_our_network)
        if contact is None:
            self.counts[NOT_BELIEVED] += 1
        elif self._table.wants(contact) and not self._newcomers.add(contact):
            self.counts["newcomers-full"] += 1

    def _tell(self, asker: Asker, target: DhtId) -> list[DhtContact]:
        limit = self._limits.answer_contacts
        near = self._table.nearest(int.from_bytes(target, "big"), limit + 1)
        return [
            contact
            for contact in near
            if contact.device != asker.device and worth_telling(contact, asker.address)
        ][:limit]

    # --- as a client

    async def lookup(self, target: DhtId, watch: Watch | None = None) -> list[DhtContact]:
        """The contacts nearest to `target` that answered, nearest first; few of each prefix.

        With a throw-away key: nobody learns who asks.
        """
        return await self._lookup(target, announce=False, watch=watch)

    async def _lookup(
        self, target: DhtId, *, announce: bool, watch: Watch | None = None
    ) -> list[DhtContact]:
        async def ask(contact: DhtContact) -> Reply:
            told = await self._find_node(contact, target, announce=announce)
            return Reply(self._believed(told, contact))

        return await self._walk(target, ask, watch)

    async def find(
        self, key: DhtId, check: Callable[[Signed], T], watch: Watch | None = None
    ) -> list[T]:
        """What `check` makes of the values under `key`, each once; empty when there is none.

        `check` raises Malformed for a value that does not count. All paths are asked, so the
        caller takes the newest: one path may lie. A value that its author would have put again by
        now ends no path: somebody may keep a newer one.
        """
        checked: dict[Signed, bool] = {}
        found: list[T] = []

        def counts(value: Signed) -> bool:
            if value not in checked:
                try:
                    result = check(value)
                except Malformed as fault:
                    self.counts[fault.code] += 1
                    checked[value] = False
                else:
                    found.append(result)
                    checked[value] = True
            return checked[value]

        async def ask(contact: DhtContact) -> Reply:
            answer = await self._asked(contact, self._rpc.find_value(contact, key))
            values = answer.values[:DHT_VALUES]
            good = [value for value in values if counts(value)]
            current = any(self._is_current(key, value) for value in good)
            return Reply(self._believed(answer.contacts, contact), current)

        for value in self._values.get(key, self._clock()):
            counts(value)
        await self._walk(key, ask, watch)
        return found

    def _is_current(self, key: DhtId, value: Signed) -> bool:
        """Whether its author put it within the last period. A public one does not tell."""
        if is_public(key, value):
            return True
        now = self._clock()
        issued = read_value_untrusted(key, value, now=now).issued
        return issued > now - self._limits.current_s

    async def publish(self, key: DhtId, value: Signed, watch: Watch | None = None) -> int:
        """Puts `value` under `key`; with how many nodes it is kept now.

        The nearest `store_width` keep it; for one that refuses or is gone, the next nearest.
        """
        near = iter(await self.lookup(key, watch))
        kept = 0

        async def put() -> None:
            nonlocal kept
            for contact in near:
                try:
                    await self._asked(contact, self._rpc.store(contact, key, value))
                except Fault as fault:
                    self.counts[fault.code] += 1
                    continue
                kept += 1
                return

        async with asyncio.TaskGroup() as group:
            for _ in range(self._limits.store_width):
                group.create_task(put())
        return kept

    async def _walk(
        self, target: DhtId, ask: Callable[[DhtContact], Awaitable[Reply]], watch: Watch | None
    ) -> list[DhtContact]:
        place = int.from_bytes(target, "big")
        now = self._clock()
        self._table.bucket_of(place).looked_up = now
        seeds = self._table.nearest(place, self._limits.bucket)
        outcome = await Lookup(target, ask, self._limits, watch).run(seeds)
        for contact in outcome.slow:
            self._table.failed(contact, now)
        for contact in outcome.answered:
            self._table.bucket_of(contact.long_id).looked_up = now
        if outcome.too_long:
            self.counts[TOO_LONG] += 1
        return few_of_each_prefix(outcome.answered, self._limits.per_prefix)

    async def _find_node(
        self, contact: DhtContact, target: DhtId, *, announce: bool
    ) -> Sequence[ToldContact]:
        announce = announce and self.server
        return await self._asked(contact, self._rpc.find_node(contact, target, announce=announce))

    async def _asked(self, contact: DhtContact, request: Awaitable[T]) -> T:
        """The answer, within the deadline; who answers is in the table, who does not leaves it.

        Raises Fault.
        """
        try:
            async with asyncio.timeout(self._limits.rpc_s):
                answer = await request
        except TimeoutError:
            self._table.failed(contact, self._clock())
            raise Unreachable("deadline", "no answer in time") from None
        except Refused as refusal:
            lives = refusal.code != CLIENT_ONLY
            (self._table.answered if lives else self._table.failed)(contact, self._clock())
            raise
        except Fault:
            self._table.failed(contact, self._clock())
            raise
        self._table.answered(contact, self._clock())
        return answer

    def _believed(self, told: Sequence[ToldContact], teller: DhtContact) -> list[DhtContact]:
        found = []
        for each in told[:DHT_CONTACTS]:
            if each.device == self._device:
                continue
            contact = believed_untrusted(each, teller.address, self._on_our_network)
            if contact is None:
                self.counts[NOT_BELIEVED] += 1
            else:
                found.append(contact)
        return found

    # --- keeping the table

    async def bootstrap(self, contacts: Iterable[DhtContact]) -> int:
        """Asks `contacts` (typed by the user, a relay, last seen; best first) who is near us.

        They are asked again whenever the table is empty. Returns how many contacts are in the
        table then.
        """
        self._seeds.update(dict.fromkeys(itertools.islice(contacts, self._limits.seeds)))
        for oldest in list(self._seeds)[: -self._limits.seeds]:
            del self._seeds[oldest]
        await self._greet(list(self._seeds), enough=self._limits.bucket)
        if len(self._table):
            await self._look_around()
            for bucket in self._table.quiet(self._clock()):
                await self._refresh(bucket)
        return len(self._table)

    async def maintain(self) -> None:
        """One round: asks newcomers, stale contacts and quiet buckets."""
        now = self._clock()
        self._values.sweep(now)
        if not len(self._table):
            await self.bootstrap(())
        await self._greet([*self._newcomers.take(), *self._table.stale(now, self._limits.checks)])
        if self._looked_around + self._limits.own_refresh_s <= now:
            await self._look_around()
        quiet = self._table.quiet(now)
        if quiet:
            await self._refresh(self._rng.choice(quiet))

    async def run(self) -> None:
        """`maintain` for ever: each `round_s`; newcomers as soon as they announce themselves."""
        loop = asyncio.get_running_loop()
        while True:
            await self.maintain()
            due = loop.time() + self._limits.round_s * self._rng.uniform(0.8, 1.2)
            while True:
                try:
                    async with asyncio.timeout_at(due):
                        await self._newcomers.wait()
                except TimeoutError:
                    break
                await self._greet(self._newcomers.take())

    async def _greet(self, contacts: Sequence[DhtContact], enough: int | None = None) -> None:
        """Asks each for those near us, until `enough` answered; that they do is what matters."""
        waiting = iter(contacts)
        answered = 0

        async def ask() -> None:
            nonlocal answered
            for contact in waiting:
                try:
                    await self._find_node(contact, self.id, announce=True)
                except Fault as fault:
                    self.counts[fault.code] += 1
                else:
                    answered += 1
                if enough is not None and answered >= enough:
                    return

        async with asyncio.TaskGroup() as group:
            for _ in range(min(len(contacts), self._limits.greeted_at_once)):
                group.create_task(ask())

    async def _look_around(self) -> None:
        self._looked_around = self._clock()
        await self._lookup(self.id, announce=True)

    async def _refresh(self, bucket: Bucket) -> None:
        low, high = bucket.range
        place = self._rng.randint(low, high)
        await self._lookup(DhtId(place.to_bytes(DhtId.LENGTH, "big")), announce=True)

    def contacts(self) -> Sequence[DhtContact]:
        """Those in the table, the longest known of each bucket first: to be kept on disk."""
        return list(self._table)

    def closest(self, target: DhtId, count: int) -> Sequence[DhtContact]:
        """Those of the table nearest to `target`, nearest first."""
        return self._table.nearest(int.from_bytes(target, "big"), count)


def few_of_each_prefix(contacts: Iterable[DhtContact], per_prefix: int) -> list[DhtContact]:
    """The first `per_prefix` of each prefix; all of this machine."""
    seen: Counter[bytes] = Counter()
    found = []
    for contact in contacts:
        if contact.prefix is not None:
            seen[contact.prefix] += 1
            if seen[contact.prefix] > per_prefix:
                continue
        found.append(contact)
    return found
