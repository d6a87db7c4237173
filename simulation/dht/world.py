"""The nodes of one run: they join, stay a while, vanish without a word, and some come back."""

from __future__ import annotations

import asyncio
import itertools
import random
import traceback
from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import Final

from discovery.dht.contact import DhtContact
from discovery.dht.limits import DEFAULT_DHT_LIMITS, DhtLimits
from discovery.dht.rpc import Asker
from schemas.dht import DhtError, DhtResponse
from schemas.ids import DhtId
from schemas.records import Signed
from simulation.dht.figures import Finding, Tables
from simulation.dht.malice import League, Liar
from simulation.dht.network import Host, Network, Request
from simulation.dht.person import Card, Person, Session
from simulation.dht.plan import Plan
from simulation.dht.population import Kind, addresses, kinds, session_s

DAY: Final = 1_800_057_600.0  # Unix seconds; midnight, UTC
JOINING: Final = 0.25  # of the warm-up: within it all first nodes come
LOOKED_FOR: Final = (Kind.HONEST, Kind.SILENT)


class World:
    """`broken` is the first invariant that did not hold."""

    def __init__(
        self,
        plan: Plan,
        loop: asyncio.AbstractEventLoop,
        limits: DhtLimits = DEFAULT_DHT_LIMITS,
    ) -> None:
        self.plan = plan
        self.network = Network(loop, plan.latency_s)
        self.broken: Finding | None = None
        self.joins = self.leaves = 0
        self.counts: Counter[str] = Counter()  # of nodes that are gone
        self._loop = loop
        self.limits = limits
        self._rng = random.Random(f"world {plan.seed}")
        self._addresses = addresses(random.Random(f"addresses {plan.seed}"))
        self._numbers = itertools.count()
        self._league = League()
        self._cards: dict[DhtId, Card] = {}
        self._relays: list[DhtContact] = []
        self._away: dict[Kind, list[Person]] = {kind: [] for kind in Kind}
        self.sessions: dict[str, Session] = {}  # by name, the longest there first

    def clock(self) -> float:
        """Unix seconds."""
        return DAY + self.plan.begins_s + self._loop.time()

    def begin(self) -> None:
        """Relays are there from the beginning; the others come one after the other."""
        within = self.plan.warm_up_s * JOINING
        for kind in kinds(self.plan):
            if kind is Kind.RELAY:
                self._come(kind)
            else:
                self._loop.call_later(self._rng.uniform(1.0, within), self._come, kind)

    async def end(self) -> None:
        for session in list(self.sessions.values()):
            self._end(session)
        await asyncio.sleep(0)

    def online(self, kinds: Sequence[Kind], *, for_s: float) -> list[Session]:
        """Sessions of these kinds that are as old as that."""
        before = self._loop.time() - for_s
        return [
            each
            for each in self.sessions.values()
            if each.began <= before and each.person.kind in kinds
        ]

    def here(self, session: Session) -> bool:
        return self.sessions.get(session.person.name) is session

    def break_(self, invariant: str, detail: str) -> None:
        if self.broken is None:
            self.broken = Finding(invariant, detail, self._loop.time())

    def crashed(self, person: Person, error: BaseException) -> None:
        told = "".join(traceback.format_exception(error))
        self.break_("no-crash", f"{person.name}: {told}")

    def tables(self) -> Tables:
        """Of the honest nodes."""
        liars = {each.host.device for each in self.online([Kind.LIAR], for_s=0.0)}
        sizes = answering = malicious = 0
        sessions = self.online([Kind.HONEST, Kind.RELAY], for_s=0.0)
        for session in sessions:
            contacts = session.node.contacts()
            sizes += len(contacts)
            answering += sum(self.network.reaches(session.host.address, each) for each in contacts)
            malicious += sum(each.device in liars for each in contacts)
        return Tables(sizes / len(sessions), answering / max(sizes, 1), malicious / max(sizes, 1))

    # --- who comes and goes

    def _come(self, kind: Kind) -> None:
        person = self._who(kind)
        host = Host(
            person.name,
            person.keys.public,
            next(self._addresses),
            _not_yet,
            behind_nat=kind is Kind.SILENT,
        )
        session = Session.make(person, host, self.network, self.clock, self.limits)
        if kind is Kind.LIAR:
            liar = Liar(self._league, partial(self._forge, person), person.rng)
            host.answer = liar.answer(session.node.answer)
            self._league.join(session.contact)
        self.sessions[person.name] = session
        self.joins += 1
        self.network.join(host)
        self.network.note(f"{person.name} comes to {host.address}")
        task = self._loop.create_task(session.live(self._known_to(person)))
        task.add_done_callback(lambda task: self._over(person, task))
        session.task = task
        if kind is Kind.RELAY:
            self._relays.append(session.contact)
        self._learn_cards(person)
        if not kind.stays:
            self._loop.call_later(session_s(self.plan, self._rng), self._go, session)

    def _who(self, kind: Kind) -> Person:
        """Somebody who was here before, or somebody new."""
        away = self._away[kind]
        if away and self._rng.random() < self.plan.returning:
            place = self._rng.randrange(len(away))
            away[place], away[-1] = away[-1], away[place]
            return away.pop()
        return Person(next(self._numbers), kind, self.plan.seed)

    def _forge(self, liar: Person, key: DhtId) -> Signed | None:
        """The league has everybody's card: each has a contact who would do that to them."""
        card = self._cards.get(key)
        if card is None:
            return None
        return card.forge(liar.keys, self.clock(), liar.rng.randbytes)

    def _learn_cards(self, person: Person) -> None:
        for cell in person.cells(self.clock(), self.limits):
            self._cards[cell.id] = Card(person.keys.public, cell)

    def _known_to(self, person: Person) -> list[DhtContact]:
        """Whom a node asks first: two relays, and whom it had in its table last time."""
        relays = self._rng.sample(self._relays, min(2, len(self._relays)))
        return [*relays, *person.last_seen]

    def _go(self, session: Session) -> None:
        """Somebody takes its place at once: there are always as many."""
        person = session.person
        self.network.note(f"{person.name} goes")
        person.last_seen = session.node.contacts()
        self._end(session)
        self._away[person.kind].append(person)
        self.leaves += 1
        self._come(person.kind)

    def _end(self, session: Session) -> None:
        self.network.leave(session.host)
        del self.sessions[session.person.name]
        self.counts.update(session.node.counts)
        if session.task is not None:
            session.task.cancel()

    def _over(self, person: Person, task: asyncio.Task[None]) -> None:
        if task.cancelled():
            return
        self.crashed(person, task.exception() or RuntimeError("a node ended"))


def _not_yet(asker: Asker, request: Request) -> DhtResponse:
    return DhtError("starting", "this node is not there yet")
