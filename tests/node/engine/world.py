"""Several real engines on real databases, joined by a network that a test steers by hand."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import mls_rs
from apsw import Connection

from identity.envelope import seal
from node.engine import commands as c
from node.engine import delivery_commands as d
from node.engine import values as v
from node.engine.clock import DOUBT_S
from node.engine.core import DEVICE_SEED
from node.engine.engine import Engine
from node.engine.mls import REAL, Library
from node.store.database import MIGRATIONS
from schemas.errors import Fault
from schemas.ids import DeviceKey, GroupId, IdentityKey, MessageId
from schemas.messages import GROUP_INFO_EXTENSION
from schemas.parcels import Parcel, pad
from schemas.records import Signed
from storage.sqlite import migrate, open_database

R = TypeVar("R")
START = 1_800_000_000.0


@dataclass
class Person:
    """One person with one device."""

    name: str
    world: World
    path: Path
    engine: Engine = field(init=False)
    events: list[v.Event] = field(default_factory=list)
    summaries: list[v.SummaryReady] = field(default_factory=list)

    def __post_init__(self) -> None:
        fresh = self.world.folder is None or not self.path.exists()
        database = Connection(":memory:") if self.world.folder is None else open_database(self.path)
        migrate(database, MIGRATIONS)
        if fresh:
            Engine.create(database, self.name, now=self.world.now, random=self.world.random)
        self.database = database
        self.engine = Engine(database, random=self.world.random, mls=self.world.mls)

    def restart(self) -> None:
        """As after a crash: all that was in memory only is gone."""
        self.database.close()
        self.__post_init__()

    @property
    def device(self) -> DeviceKey:
        return self.engine.device.public

    @property
    def identity(self) -> IdentityKey:
        return self.engine.identity.public

    def lawless(self, group: GroupId) -> mls_rs.Group:
        """This member's own state of a group, in a program that judges no commit."""
        core = self.engine._core
        seed, stored = core.people.secret(DEVICE_SEED), core.groups.mls_state(group)
        assert seed is not None
        assert stored is not None
        client = core.library.client(
            signing_seed=seed,
            credential=core.credential,
            storage_key=core.device.derive(b"mls state"),
            validate_credential=lambda key, credential: None,
            extension_types=[GROUP_INFO_EXTENSION],
        )
        return client.load_group(group, *stored)

    def run(self, *batch: c.Command[Any]) -> list[object]:
        result = self.engine.run(batch, self.world.now)
        self.events += [e for e in result.effects if isinstance(e, v.Event)]
        self.summaries += [e for e in result.effects if isinstance(e, v.SummaryReady)]
        return list(result.answers)

    def ask(self, command: c.Command[R]) -> R:
        answer = self.run(command)[0]
        if isinstance(answer, Fault):
            raise answer
        return answer  # type: ignore[return-value]

    # --- what users do

    def knows(self, *others: Person) -> None:
        for other in others:
            self.ask(c.AddContact(other.ask(c.WhoAmI()).card))
            core, endpoint = other.ask(d.OwnRecords())
            self.ask(d.ReceiveBundle(core, (endpoint,) if endpoint else ()))

    def key_package(self, suite: int) -> bytes:
        return self.ask(d.MakeKeyPackage(suite))[0]

    def create(self, name: str, suite: int, *others: Person) -> GroupId:
        group = self.ask(c.CreateGroup(name, suite)).group
        if others:
            self.invite(group, *others)
        return group

    def invite(self, group: GroupId, *others: Person, admin: bool = False) -> None:
        suite = {"hybrid": mls_rs.HYBRID, "classic": mls_rs.CLASSIC}[self.view(group).suite]
        packages = tuple(other.key_package(suite) for other in others)
        people = tuple(other.identity for other in others)
        self.ask(c.Invite(group, people, packages, admin))

    def send(self, group: GroupId, text: str) -> MessageId:
        return self.ask(c.Send(group, text)).message

    def read(self, group: GroupId | None = None) -> list[str]:
        """New texts, acknowledged at once."""
        found = self.ask(c.ReadMessages("default", group))
        seen = {message.group: message.arrival for message in found}
        for message in found:
            seen[message.group] = max(seen[message.group], message.arrival)
        self.ask(c.MoveCursor("default", tuple(seen.items())))
        return [message.text for message in found]

    def view(self, group: GroupId) -> v.GroupView:
        return self.ask(c.FindGroup(group.hex()))

    def states(self, message: MessageId) -> dict[str, str]:
        rows = self.ask(c.ReadLedger(message.hex()))
        return {row.name: row.state.value for row in rows}


@dataclass
class World:
    """`deliver` decides per parcel: True lets it through, False leaves it queued.

    Without a folder the databases are in memory: crowds are faster that way.
    """

    folder: Path | None
    now: float = START
    people: list[Person] = field(default_factory=list)
    deliver: Callable[[Person, Person], bool] = lambda sender, recipient: True
    verdicts: list[tuple[str, str, v.Verdict]] = field(default_factory=list)
    mls: Library = REAL
    random: Callable[[int], bytes] = os.urandom
    seal: Callable[[bytes, bytes], bytes] = seal

    def person(self, name: str) -> Person:
        person = Person(name, self, (self.folder or Path()) / f"{name}.db")
        self.people.append(person)
        return person

    def friends(self, *names: str) -> list[Person]:
        people = [self.person(name) for name in names]
        for person in people:
            person.knows(*(other for other in people if other is not person))
        return people

    def tea(self, people: list[Person]) -> GroupId:
        """A classic group of the first with the others, who have accepted."""
        founder, *others = people
        group = founder.create("tea", mls_rs.CLASSIC, *others)
        self.settle()
        for person in others:
            person.ask(c.Join(group))
        self.settle(2)
        return group

    def link(self, *people: Person) -> None:
        for person in people:
            for other in people:
                if other is not person:
                    person.ask(d.LinkUp(other.device, other.ask(d.OwnHello("127.0.0.1:1"))))

    def by_device(self, device: DeviceKey) -> Person | None:
        return next((person for person in self.people if person.device == device), None)

    def take(self, sender: Person, recipient: Person) -> list[Parcel]:
        items = sender.ask(d.TakeDue(recipient.device))
        parcels = []
        for item in items:
            assert item.hybrid_key is not None, f"{sender.name} lacks {recipient.name}'s keys"
            sealed = self.seal(item.hybrid_key, pad(item.body))
            parcels.append(Parcel(item.parcel, item.recipient, item.expires, sealed))
        return parcels

    def hand(self, sender: Person, recipient: Person, parcels: list[Parcel]) -> None:
        """Gives parcels to the recipient and the outcomes to the sender."""
        outcomes = []
        for parcel in parcels:
            verdict = recipient.ask(d.Arrived(parcel, "direct", sender.device))
            self.verdicts.append((sender.name, recipient.name, verdict))
            match verdict:
                case v.Accepted():
                    outcomes.append(d.Outcome(parcel.id, acked=True))
                case v.Deferred(retry_after_s):
                    outcomes.append(d.Outcome(parcel.id, retry_after_s=retry_after_s))
                case v.Rejected(code):
                    outcomes.append(d.Outcome(parcel.id, refused=code))
        sender.ask(d.ReportOutcomes(tuple(outcomes)))

    def settle(self, seconds: float = 0.0) -> None:
        """Delivers until nothing moves; then lets time pass in small steps, ticking."""
        end = self.now + seconds
        while True:
            while self._round():
                pass
            if self.now >= end:
                return
            self.now = min(self.now + 0.5, end)
            for person in self.people:
                person.ask(c.Tick())

    def later(self, seconds: float) -> None:
        """Time passes for everybody: long enough beyond for a step to be believed."""
        self.now += seconds
        for _ in range(2):
            for person in self.people:
                person.ask(c.Tick())
            self.now += DOUBT_S
        for person in self.people:
            person.ask(c.Tick())

    def _round(self) -> bool:
        moved = False
        for sender in self.people:
            due = sender.engine._core.outbox.due_recipients(self.now)
            for recipient in self.people:
                if recipient.device not in due or not self.deliver(sender, recipient):
                    continue
                parcels = self.take(sender, recipient)
                if parcels:
                    self.hand(sender, recipient, parcels)
                    moved = True
            ready, sender.summaries = sender.summaries, []
            for summary in ready:
                other = self.by_device(summary.device)
                if other is not None and self.deliver(sender, other):
                    other.ask(d.ReceiveSummary(sender.device, Signed.decode(summary.summary)))
                    moved = True
        return moved
