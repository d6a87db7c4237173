"""The stage of tier 1. One seed makes one world, and the same one every time."""

from __future__ import annotations

import hashlib
from collections import Counter, deque
from collections.abc import Collection, Sequence
from random import Random
from typing import Any, Final

from node.engine import commands as c
from node.engine import delivery_commands as d
from node.engine import relay_commands as r
from node.engine import values as v
from node.engine.engine import BatchResult
from node.engine.groups.fork_choice import H, Rule
from schemas.errors import Blame, Fault
from schemas.group_records import CommitHeader, Intent, Statement
from schemas.ids import EpochId, GroupId, IdentityKey, MessageId
from schemas.parcels import CommitContent, Content, HeadsContent, IntentContent, ParcelBody
from simulation.stage import Group, Message, Node, Owed, Shown, Standing
from simulation.world.clock import VirtualClock
from simulation.world.evidence import Evidence, queues_within_caps
from simulation.world.machine import Machine, copy_of, in_memory
from simulation.world.means import MODEL, means
from simulation.world.network import Network
from simulation.world.relay import ADDRESS, Relay

START: Final = 1_800_000_000.0
LAST_LINES: Final = 200  # of the event log, kept for whoever looks into a violation
NEWS_S: Final = 1.0  # a change of network is noticed within that
EVERYTHING: Final = 1_000_000


class World:
    """A Stage (simulation/stage.py)."""

    features = frozenset(
        {"clones", "withholding", "crash-points", "one-way", "disk-full", "skew", "relay"}
    )

    def __init__(self, seed: int, *, relay: bool = False, mls: str = MODEL, rule: Rule = H) -> None:
        self.seed = seed
        self.epoch = START
        self.clock = VirtualClock()
        self.rng = Random(f"{seed} world")
        self.network = Network(self.clock, Random(f"{seed} network"))
        self.relay = Relay(self.network, START) if relay else None
        self.library, self.suite, self.seal = means(mls, seed)
        self.rule = rule
        self.evidence = Evidence()
        self.machines: dict[Node, Machine] = {}
        self.events: Counter[str] = Counter()
        self.timeline: dict[Node, list[tuple[float, int, str]]] = {}
        self.lines: deque[str] = deque(maxlen=LAST_LINES)
        self.print_lines = False
        self._digest = hashlib.sha256()
        self._people: dict[IdentityKey, Node] = {}
        self._deaf: set[Node] = set()

    # --- time

    @property
    def now(self) -> float:
        return self.clock.now

    def advance(self, until: float) -> None:
        self.clock.advance(until)

    # --- nodes and machines

    def start(self, node: Node) -> None:
        machine = Machine(self, node, in_memory(), fresh=True)
        self._add(machine)
        self._people[machine.identity] = node
        if self.relay is not None:
            machine.ask(r.SetRelays((ADDRESS,)))

    def _add(self, machine: Machine) -> None:
        self.machines[machine.name] = machine
        self.timeline[machine.name] = []
        self.network.add(machine)

    def acquaint(self, node: Node, others: Sequence[Node]) -> None:
        one = self._awake(node)
        for name in others:
            other = self._awake(name)
            for reader, known in ((one, other), (other, one)):
                reader.ask(c.AddContact(known.card))
                core, endpoint = known.ask(d.OwnRecords())
                reader.ask(d.ReceiveBundle(core, (endpoint,) if endpoint else ()))

    def _awake(self, node: Node) -> Machine:
        machine = self.machines[node]
        if not machine.up:
            raise Fault("not-running", f"{node} is not running", blame=Blame.ENVIRONMENT)
        return machine

    def awake(self, node: Node) -> bool:
        return self.machines[node].up

    def sleep(self, node: Node) -> None:
        self.machines[node].sleep()

    def wake(self, node: Node) -> None:
        self.machines[node].wake()

    def crash(self, node: Node, point: str = "between") -> None:
        self.machines[node].crash(point)

    def fill_disk(self, node: Node, full: bool) -> None:
        self.log(self.machines[node], f"disk {'full' if full else 'has room'}")
        self.machines[node].disk_full = full

    def set_clock(self, node: Node, ahead_s: float) -> None:
        self.log(self.machines[node], f"clock {ahead_s:+.3f}")
        self.machines[node].set_clock(ahead_s)

    def clone(self, node: Node, name: Node) -> None:
        original = self.machines[node]
        copy = Machine(self, name, copy_of(original.disk), fresh=False)
        copy.sleep()
        self._add(copy)
        self.evidence.stolen.add(original.device)

    def deafen(self, node: Node) -> None:
        self._deaf.add(node)

    def deaf(self, machine: Machine) -> bool:
        return machine.name in self._deaf

    # --- the network

    def partition(self, sides: Sequence[Collection[Node]]) -> None:
        self.network.partition(sides)

    def isolate(self) -> None:
        self.network.isolate()

    def heal(self) -> None:
        self.network.heal()
        for machine in self.machines.values():
            if machine.up:
                queues_within_caps(machine)
                machine.after(machine.rng.uniform(0, NEWS_S), machine.courier.look_around)

    def cut(self, source: Node, target: Node) -> None:
        self.network.cut(source, target)

    def trouble(
        self, *, latency_s: tuple[float, float], loss: float, duplicates: float, reorder: float
    ) -> None:
        network = self.network
        network.latency_s, network.loss = latency_s, loss
        network.duplicates, network.reorder = duplicates, reorder

    def withhold(self, recipients: Collection[Node]) -> None:
        if self.relay is not None:
            self.relay.withheld |= {self.machines[node].device for node in recipients}

    def release(self) -> None:
        if self.relay is not None:
            self.relay.release()

    # --- what users do

    def create_group(self, node: Node, name: str) -> Group:
        return self._awake(node).ask(c.CreateGroup(name, self.suite)).group.hex()

    def invite(
        self, node: Node, group: Group, others: Sequence[Node], *, admin: bool = False
    ) -> None:
        machine, invited = self._awake(node), [self._awake(other) for other in others]
        packages = tuple(other.ask(d.MakeKeyPackage(self.suite))[0] for other in invited)
        people = tuple(other.identity for other in invited)
        machine.ask(c.Invite(_id(group), people, packages, admin))

    def join(self, node: Node, group: Group) -> None:
        self._awake(node).ask(c.Join(_id(group)))

    def send(self, node: Node, group: Group, text: str) -> Message:
        return self._awake(node).ask(c.Send(_id(group), text)).message.hex()

    def remove(self, node: Node, group: Group, other: Node) -> None:
        identity = self.machines[other].identity
        self._awake(node).ask(c.RemoveMember(_id(group), identity))

    def leave(self, node: Node, group: Group) -> None:
        self._awake(node).ask(c.Leave(_id(group)))

    def update_key(self, node: Node, group: Group) -> None:
        self._awake(node).ask(c.UpdateKey(_id(group)))

    # --- what can be seen

    def standing(self, node: Node, group: Group) -> Standing | None:
        return self.machines[node].standing(_id(group))

    def shown(self, node: Node, group: Group) -> list[Shown]:
        return self.machines[node].shown.get(_id(group), [])

    def history(self, node: Node, group: Group) -> list[Shown]:
        found = self._awake(node).ask(c.ReadHistory(_id(group), 0, EVERYTHING))
        return [self.as_shown(message) for message in found]

    def ledger(self, node: Node, message: Message) -> list[Owed]:
        store = self.machines[node].engine._core.outbox
        return [
            Owed(self.name_of(row.identity), row.state, row.reason)
            for row in store.ledger(MessageId.from_hex(message))
        ]

    def name_of(self, identity: IdentityKey) -> Node:
        return self._people.get(identity, identity.hex()[:8])

    def as_shown(self, message: v.MessageView) -> Shown:
        author = self.name_of(message.sender)
        return Shown(message.message.hex(), author, message.sequence, message.text)

    # --- the event log

    def note(self, text: str) -> None:
        self._line(f"{self.clock.now:.3f} -- {text}")

    def log(self, machine: Machine, text: str) -> None:
        self._line(f"{self.clock.now:.3f} {machine.name} {text}")

    def _line(self, line: str) -> None:
        self._digest.update(line.encode() + b"\n")
        self.lines.append(line)
        if self.print_lines:
            print(line)

    def note_batch(
        self, machine: Machine, batch: Sequence[c.Command[Any]], result: BatchResult
    ) -> None:
        words = [type(command).__name__ for command in batch]
        for answer in result.answers:
            if isinstance(answer, Fault):
                words.append(f"refused {answer.code}")
            elif isinstance(answer, v.Rejected):
                words.append(f"rejected {answer.code}")
            elif isinstance(answer, v.Deferred):
                words.append("deferred")
        words.append("->")
        for effect in result.effects:
            match effect:
                case v.Event(kind, fields):
                    self.events[kind] += 1
                    detail = fields.get("message") or fields.get("epoch") or ""
                    words.append(f"{kind} {str(detail)[:8]}")
                case v.OutboxReady(devices):
                    words.append(f"out {len(devices)}")
                case v.Counted(reason):
                    words.append(f"dropped {reason}")
                case _:
                    words.append(type(effect).__name__)
        self._line(f"{self.clock.now:.3f} {machine.name} {' '.join(words)}")

    def note_epoch(self, machine: Machine, group: GroupId, epoch: int, name: EpochId) -> None:
        del group
        self.timeline[machine.name].append((self.clock.now, epoch, name.hex()[:8]))
        self.log(machine, f"enters epoch {epoch} {name.hex()[:8]}")

    def tell_sent(self, machine: Machine, item: v.OutboxItem) -> None:
        """For whoever reads along; it is no part of the digest."""
        if self.print_lines:
            content = ParcelBody.decode(item.body).content
            owner = machine.engine._core.people.owner(item.recipient)
            name = item.recipient.hex()[:8] if owner is None else self.name_of(owner)
            print(f"{self.clock.now:.3f} {machine.name} => {name} {told(content)}")

    @property
    def digest(self) -> str:
        """SHA-256 of the event log so far."""
        return self._digest.hexdigest()

    @property
    def engine_events(self) -> int:
        """Commands that engines ran."""
        return sum(machine.commands for machine in self.machines.values())


def told(content: Content) -> str:
    """A parcel's content in a few words."""
    kind = type(content).__name__.removesuffix("Content").lower()
    match content:
        case CommitContent(header):
            found = CommitHeader.decode(header.payload)
            return f"{kind} {found.commit.hex()[:6]} on {found.parent.hex()[:6]} ({found.epoch})"
        case HeadsContent(headers, statements, proofs):
            places = " ".join(Statement.decode(s.payload).commit.hex()[:6] for s in statements)
            found_headers = [CommitHeader.decode(header.payload) for header in headers]
            shown = " ".join(f"{h.commit.hex()[:6]} on {h.parent.hex()[:6]}" for h in found_headers)
            return f"{kind} [{shown}] {len(proofs)} proofs, at {places}"
        case IntentContent(intent):
            found_intent = Intent.decode(intent.payload)
            return f"{kind} {found_intent.kind.name.lower()} {found_intent.id.hex()[:6]}"
        case _:
            return kind


def _id(group: Group) -> GroupId:
    return GroupId.from_hex(group)
