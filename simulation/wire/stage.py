"""The wire tier: a scenario's Stage made of real nodes on a simulated network."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import Counter, defaultdict, deque
from collections.abc import Collection, Coroutine, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, TypeVar

import mls_rs

from node.engine import commands
from node.engine import delivery_commands as d
from node.engine.values import Event, MessageView
from node.engine_thread import Batch
from schemas.errors import Fault
from schemas.ids import EpochId, GroupId, IdentityKey, MessageId
from simulation.scenario import Violation
from simulation.stage import INVITED, Group, Message, Node, Owed, Shown, Standing
from simulation.wire.engine import Doom
from simulation.wire.loop import VirtualLoop
from simulation.wire.machine import Machine
from simulation.wire.network import Conditions, Network
from simulation.wire.relay import HOST, SimulatedRelay
from simulation.world.evidence import Evidence, queues_within_caps

R = TypeVar("R")

IN_MEMORY: Final = Path("/dev/shm")  # noqa: S108 - where Linux has a tmpfs; a folder is made in it
EYES: Final = "eyes"  # the cursor of whoever looks at the screen
MOST: Final = 1_000_000
LOOK_AT_QUEUES_S: Final = 10.0
LAST_LINES: Final = 200  # of the event log
_MOMENTS: Final[dict[str, Doom | None]] = {"between": None, "before": "before", "after": "after"}


class WireStage:
    """A `simulation.stage.Stage`; `close` it at the end.

    MLS and QUIC draw from the operating system, so that a seed fixes only what the network does to
    each datagram: no two runs are the same. Time passes in `advance`, and also in `invite`, which
    fetches KeyPackages over the network.
    """

    features: frozenset[str] = frozenset(
        {"one-way", "skew", "crash-points", "disk-full", "relay", "withholding"}
    )

    def __init__(self, seed: int, *, relay: bool = False, suite: int = mls_rs.HYBRID) -> None:
        self._suite = suite
        self._runner = asyncio.Runner(loop_factory=VirtualLoop)
        self._loop = self._runner.get_loop()
        self._epoch = time.time()
        self._folder = TemporaryDirectory(
            prefix="wire-", dir=IN_MEMORY if IN_MEMORY.is_dir() else None
        )
        self.network = Network(seed)
        self.machines: dict[Node, Machine] = {}
        self._names: dict[IdentityKey, Node] = {}
        self._shown: dict[tuple[Node, Group], list[Shown]] = defaultdict(list)
        self._stood: dict[tuple[Node, Group], Standing] = {}
        self.evidence = Evidence()
        self._next_look_at_queues = 0.0
        self._commands = 0
        self.events: Counter[str] = Counter()
        self.timeline: dict[Node, list[tuple[float, int, str]]] = defaultdict(list)
        self.lines: deque[str] = deque(maxlen=LAST_LINES)
        self.print_lines = False
        self._digest = hashlib.sha256()
        self._broken: asyncio.Future[None] = self._loop.create_future()
        self._relay: SimulatedRelay | None = None
        if relay:
            self._do(self._start_relay())

    def close(self) -> None:
        """Ends all nodes, and removes their homes."""
        if self._broken.done():
            self._broken.exception()  # retrieved, by whoever closes
        try:
            self._do(self._stop_all())
        finally:
            self._runner.close()
            self._folder.cleanup()

    # --- time

    @property
    def now(self) -> float:
        return self._loop.time()

    def advance(self, until: float) -> None:
        self._do(self._sleep(until - self.now))

    async def _sleep(self, seconds: float) -> None:
        """Raises Violation, and what ended a node that nobody meant to end."""
        ends = [self._broken, *(machine.life for machine in self.machines.values())]
        await asyncio.wait(
            [asyncio.ensure_future(asyncio.sleep(seconds)), *ends], return_when="FIRST_COMPLETED"
        )
        for end in ends:
            if end.done():
                end.result()
        self._examine()

    def _examine(self) -> None:
        due = self.now >= self._next_look_at_queues
        if due:
            self._next_look_at_queues = self.now + LOOK_AT_QUEUES_S
        for machine in self.machines.values():
            if defects := machine.defects():
                raise Violation("no-crash", " ".join(sorted(defects)), machine.name)
            if due and machine.running:
                queues_within_caps(machine)

    # --- nodes and machines

    def start(self, node: Node) -> None:
        number = len(self.machines) + 1
        host = f"10.0.{number // 250}.{number % 250 + 1}"
        home = Path(self._folder.name, node)
        machine = Machine(self, node, home, host)
        self._do(machine.start())
        self.machines[node] = machine
        self._names[machine.identity] = node

    def acquaint(self, node: Node, others: Sequence[Node]) -> None:
        for other in others:
            self._introduce(node, other)
            self._introduce(other, node)

    def _introduce(self, node: Node, other: Node) -> None:
        card = self._ask(other, commands.WhoAmI()).card
        bundle, endpoint = self._ask(other, d.OwnRecords())
        self._ask(node, commands.AddContact(card))
        records = () if endpoint is None else (endpoint,)
        self._ask(node, d.ReceiveBundle(bundle, records))

    def sleep(self, node: Node) -> None:
        self._look(node)
        self._do(_soon(self.machines[node].sleep))

    def wake(self, node: Node) -> None:
        self._do(_soon(self.machines[node].wake))

    def crash(self, node: Node, point: str = "between") -> None:
        self._look(node)
        self._do(_soon(lambda: self.machines[node].crash(_MOMENTS[point])))

    def set_clock(self, node: Node, ahead_s: float) -> None:
        self.machines[node].ahead_s = ahead_s

    def fill_disk(self, node: Node, full: bool) -> None:
        self.log(node, f"disk {'full' if full else 'has room'}")
        self.machines[node].disk_full = full

    def clone(self, node: Node, name: Node) -> None:
        raise NotImplementedError

    def deafen(self, node: Node) -> None:
        raise NotImplementedError

    # --- the network

    def partition(self, sides: Sequence[Collection[Node]]) -> None:
        hosts = [[self._host(node) for node in side] for side in sides]
        self.network.partition([[*hosts[0], HOST], *hosts[1:]])

    def heal(self) -> None:
        self.network.heal()
        for machine in self.machines.values():
            if machine.awake:  # who sleeps notices when it wakes
                self._do(_soon(machine.network_changed))

    def isolate(self) -> None:
        self.network.isolate(HOST)

    def cut(self, source: Node, target: Node) -> None:
        self.network.cut(self._host(source), self._host(target))

    def trouble(
        self, *, latency_s: tuple[float, float], loss: float, duplicates: float, reorder: float
    ) -> None:
        self.network.conditions = Conditions(latency_s, loss, duplicates, reorder)

    def withhold(self, recipients: Collection[Node]) -> None:
        if self._relay is not None:
            self._relay.withhold(frozenset(self.machines[node].device for node in recipients))

    def release(self) -> None:
        if self._relay is not None:
            self._do(_soon(self._relay.release))

    # --- what users do

    def create_group(self, node: Node, name: str) -> Group:
        return self._ask(node, commands.CreateGroup(name, self._suite)).group.hex()

    def invite(
        self, node: Node, group: Group, others: Sequence[Node], *, admin: bool = False
    ) -> None:
        people = [self.machines[other].identity for other in others]
        for other, identity in zip(others, people, strict=True):
            if not self._ask(node, commands.DevicesOf(identity)):
                self._introduce(node, other)
        inviter = self.machines[node].node
        self._do(inviter.invite(_id(group), people, admin=admin))

    def join(self, node: Node, group: Group) -> None:
        self._ask(node, commands.Join(_id(group)))

    def send(self, node: Node, group: Group, text: str) -> Message:
        return self._ask(node, commands.Send(_id(group), text)).message.hex()

    def remove(self, node: Node, group: Group, other: Node) -> None:
        self._ask(node, commands.RemoveMember(_id(group), self.machines[other].identity))

    def leave(self, node: Node, group: Group) -> None:
        self._ask(node, commands.Leave(_id(group)))

    def update_key(self, node: Node, group: Group) -> None:
        self._ask(node, commands.UpdateKey(_id(group)))

    # --- what can be seen from outside

    def awake(self, node: Node) -> bool:
        return self.machines[node].awake

    def standing(self, node: Node, group: Group) -> Standing | None:
        """Of a node that is just starting again, as it was when somebody last looked."""
        machine = self.machines[node]
        if machine.running:
            core = machine.engine._core
            row = core.groups.get(_id(group))
            if row is None:
                return None
            members = core.groups.members(row.id)
            self._stood[node, group] = Standing(
                row.epoch,
                row.epoch_id.hex(),
                row.status if row.accepted else INVITED,
                frozenset(self._name(member.identity) for member in members),
            )
        return self._stood.get((node, group))

    def shown(self, node: Node, group: Group) -> list[Shown]:
        self._look(node)
        return list(self._shown[node, group])

    def _look(self, node: Node) -> None:
        """The user of a node that is awake reads what is new, and has then seen it."""
        machine = self.machines[node]
        while machine.awake and not machine.disk_full:
            found = self._ask(node, commands.ReadMessages(EYES), spared=True)
            if not found:
                return
            for message in found:
                if not message.own:
                    self.evidence.shown(machine, message)
                    self._shown[node, message.group.hex()].append(self._as_shown(message))
            seen = {message.group: message.arrival for message in sorted(found, key=_arrival)}
            self._ask(node, commands.MoveCursor(EYES, tuple(seen.items())), spared=True)

    def history(self, node: Node, group: Group) -> list[Shown]:
        found = self._ask(node, commands.ReadHistory(_id(group), limit=MOST), spared=True)
        return [self._as_shown(message) for message in found]

    def ledger(self, node: Node, message: Message) -> list[Owed]:
        rows = self.machines[node].engine._core.outbox.ledger(MessageId.from_hex(message))
        return [Owed(self._name(row.identity), row.state, row.reason) for row in rows]

    def note(self, text: str) -> None:
        self.log("-", text)

    # --- what machines tell

    def unix(self) -> float:
        return self._epoch + self._loop.time()

    def note_batch(self, machine: Machine, batch: Sequence[Any], result: Batch) -> None:
        self._commands += len(batch)
        for answer in result.answers:
            if isinstance(answer, Fault):
                self.log(machine.name, f"refused {answer.code}")
        for effect in result.effects:
            if isinstance(effect, Event):
                self.events[effect.kind] += 1
                self.log(machine.name, effect.kind)

    def note_epoch(self, machine: Machine, group: GroupId, epoch: int, name: EpochId) -> None:
        del group
        self.timeline[machine.name].append((self.now, epoch, name.hex()[:8]))
        self.log(machine.name, f"enters epoch {epoch} {name.hex()[:8]}")

    def note_violation(self, found: Violation) -> None:
        """Raised by whoever lets time pass next."""
        if not self._broken.done():
            self._broken.set_exception(found)

    def log(self, who: str, what: str) -> None:
        line = f"{self.now:.3f} {who} {what}"
        self._digest.update(line.encode() + b"\n")
        self.lines.append(line)
        if self.print_lines:
            print(line)

    @property
    def digest(self) -> str:
        """SHA-256 of the event log so far; another one each time."""
        return self._digest.hexdigest()

    @property
    def engine_events(self) -> int:
        """Commands that engines ran."""
        return self._commands

    # --- inside

    def _do(self, work: Coroutine[Any, Any, R]) -> R:
        return self._loop.run_until_complete(work)

    def _ask(self, node: Node, command: commands.Command[R], *, spared: bool = False) -> R:
        return self._do(self.machines[node].ask_now(command, spared=spared))

    @property
    def relay(self) -> str | None:
        """The address of the relay that everybody uses."""
        return None if self._relay is None else self._relay.address

    async def _start_relay(self) -> None:
        relay = SimulatedRelay(Path(self._folder.name, "relay"), self.network, self.unix)
        await relay.start()
        self._relay = relay

    async def _stop_all(self) -> None:
        ended = [machine.life.done() for machine in self.machines.values()]
        stops = (machine.stop() for machine in self.machines.values())
        results = await asyncio.gather(*stops, return_exceptions=True)
        if self._relay is not None:
            await self._relay.stop()
        for result in results:
            if isinstance(result, BaseException) and not any(ended):  # else it was told already
                raise result

    def _host(self, node: Node) -> str:
        return self.machines[node].host

    def _name(self, identity: IdentityKey) -> Node:
        return self._names.get(identity, identity.hex())

    def _as_shown(self, message: MessageView) -> Shown:
        author = self._name(message.sender)
        return Shown(message.message.hex(), author, message.sequence, message.text)


def _id(group: Group) -> GroupId:
    return GroupId.from_hex(group)


def _arrival(message: MessageView) -> int:
    return message.arrival


async def _soon(work: Any) -> None:
    """On the loop."""
    work()
