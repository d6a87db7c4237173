"""The stage on which nodes are real processes: time is the wall's, the network is namespaces."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections import Counter, deque
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from node.api import operations as op
from node.api import shapes as s
from node.demo.processes import StepFailed
from schemas.errors import Blame, Fault
from simulation.processes.network import Network, Place, Trouble, reason_against
from simulation.processes.node_process import NodeProcess, RelayProcess
from simulation.processes.talk import Reader
from simulation.stage import INVITED, Group, Message, Node, Owed, Shown, Standing

_HISTORY: Final = 500
_LINES: Final = 1000
_LAST_WORDS: Final = 20  # lines of each process


class ProcessStage:
    """A `simulation.stage.Stage` of real nodes, with a relay if wanted. See `opened`."""

    features = frozenset({"relay", "withholding", "one-way"})

    digest = ""  # real time does not repeat
    engine_events = 0  # not counted from outside

    def __init__(self, folder: Path, network: Network, *, relay: bool) -> None:
        self._folder = folder
        self._network = network
        self._began = time.monotonic()
        self._nodes: dict[Node, NodeProcess] = {}
        self._places: dict[Node, Place] = {}
        self._shown: dict[tuple[Node, Group], Reader] = {}
        self._said: dict[Message, tuple[Node, int]] = {}  # author, its number among theirs
        self._counts: Counter[tuple[Node, Group]] = Counter()
        self._middle = network.add()  # where the relay is, if any
        self._relay = RelayProcess(folder, self._middle) if relay else None
        self.print_lines = False
        self.events: Counter[str] = Counter()
        self.timeline: dict[Node, list[tuple[float, int, str]]] = {}
        self._lines: deque[str] = deque(maxlen=_LINES)

    @classmethod
    @contextlib.contextmanager
    def opened(cls, seed: int, *, relay: bool) -> Iterator[ProcessStage]:
        """A stage whose processes end with it. Raises Fault `no-namespaces`; StepFailed."""
        if reason := reason_against():
            raise Fault(
                "no-namespaces",
                reason.partition(":")[0],
                blame=Blame.ENVIRONMENT,
                hint=reason.partition(": ")[2],
            )
        with (
            tempfile.TemporaryDirectory(prefix="simulation-") as folder,
            Network(seed) as network,
            ExitStack() as ends,
        ):
            stage = cls(Path(folder), network, relay=relay)
            ends.callback(stage._end)
            yield stage

    def _end(self) -> None:
        with ExitStack() as ends:
            if self._relay is not None:
                ends.callback(self._relay.end)
            for process in self._nodes.values():
                ends.callback(process.end)

    # --- time

    @property
    def now(self) -> float:
        return time.monotonic() - self._began

    def advance(self, until: float) -> None:
        time.sleep(max(0.0, until - self.now))

    # --- nodes and machines

    def start(self, node: Node) -> None:
        options = () if self._relay is None else ("--relay", self._relay.address)
        place = self._network.add()
        process = NodeProcess.at(place, node, self._folder, *options)
        self._places[node], self._nodes[node] = place, process
        process.run()

    def acquaint(self, node: Node, others: Sequence[Node]) -> None:
        for other in others:
            self._nodes[node].knows(self._nodes[other])
            self._nodes[other].knows(self._nodes[node])

    def sleep(self, node: Node) -> None:
        self._nodes[node].sleep()
        self.note(f"{node} is asleep")

    def wake(self, node: Node) -> None:
        self._nodes[node].wake()
        self.note(f"{node} is awake")

    def crash(self, node: Node, point: str = "between") -> None:
        if point != "between":
            raise _cannot("crash at a chosen point")
        process = self._nodes[node]
        assert process.node is not None
        process.node.kill()
        process.run()

    def fill_disk(self, node: Node, full: bool) -> None:
        if full:
            raise _cannot("fill a disk")

    def set_clock(self, node: Node, ahead_s: float) -> None:
        if ahead_s:
            raise _cannot("set a clock")

    def clone(self, node: Node, name: Node) -> None:
        raise _cannot("clone a node")

    def deafen(self, node: Node) -> None:
        raise _cannot("make a node deaf")

    # --- the network

    def partition(self, sides: Sequence[Collection[Node]]) -> None:
        places = [[self._places[node] for node in side] for side in sides]
        if self._relay is not None:
            places[0].append(self._middle)
        self._network.part(places)

    def isolate(self) -> None:
        self._network.part([[place] for place in self._places.values()])

    def heal(self) -> None:
        """As a cable that is plugged in again: no node is told, each finds out by trying."""
        self._network.heal()

    def cut(self, source: Node, target: Node) -> None:
        self._network.cut(self._places[source], self._places[target])
        self.note(f"{source} does not reach {target}")

    def trouble(
        self, *, latency_s: tuple[float, float], loss: float, duplicates: float, reorder: float
    ) -> None:
        self._network.trouble = Trouble(latency_s, loss, duplicates, reorder)

    def withhold(self, recipients: Collection[Node]) -> None:
        if self._relay is None:
            if recipients:
                raise _cannot("withhold without a relay")
            return
        self._relay.withhold([self._nodes[node].device for node in recipients])
        self.note(f"the relay withholds what is for {' '.join(recipients) or 'nobody'}")

    def release(self) -> None:
        self.withhold(())

    # --- what users do

    def create_group(self, node: Node, name: str) -> Group:
        process = self._nodes[node]
        return process.call(op.CREATE_GROUP, s.CreateGroup(name)).group

    def invite(
        self, node: Node, group: Group, others: Sequence[Node], *, admin: bool = False
    ) -> None:
        people = [self._nodes[other].identity for other in others]
        role = "admin" if admin else "member"
        self._nodes[node].call(op.INVITE, s.Invite(group, people, role))
        self.note(f"{node} invites {' '.join(others)}")

    def join(self, node: Node, group: Group) -> None:
        self._nodes[node].call(op.JOIN, s.ByGroup(group))

    def send(self, node: Node, group: Group, text: str) -> Message:
        message = self._nodes[node].call(op.SEND, s.Send(text, group)).message
        self._counts[node, group] += 1
        self._said[message] = node, self._counts[node, group]
        return message

    def remove(self, node: Node, group: Group, other: Node) -> None:
        self._nodes[node].call(op.REMOVE, s.Remove(group, self._nodes[other].identity))

    def leave(self, node: Node, group: Group) -> None:
        self._nodes[node].call(op.LEAVE, s.ByGroup(group))

    def update_key(self, node: Node, group: Group) -> None:
        found = self._nodes[node].call(op.UPDATE_KEY, s.ByGroup(group))
        self.note(f"{node} renews its key: epoch {found.epoch}")

    # --- what can be seen from outside

    def awake(self, node: Node) -> bool:
        return not self._nodes[node].stopped

    def standing(self, node: Node, group: Group) -> Standing | None:
        try:
            found = self._nodes[node].group(group)
        except Fault as fault:
            if fault.code != "unknown-group":
                raise
            return None
        members = frozenset(member.name for member in found.members)
        epoch_id = self._nodes[node].epoch_id(group)
        seen = self.timeline.setdefault(node, [])
        if not seen or seen[-1][1:] != (found.epoch, epoch_id[:8]):
            seen.append((self.now, found.epoch, epoch_id[:8]))
        status = found.status if found.accepted else INVITED
        return Standing(found.epoch, epoch_id, status, members)

    def shown(self, node: Node, group: Group) -> list[Shown]:
        reader = self._shown.setdefault((node, group), Reader(self._nodes[node], "default", group))
        reader.read()
        return [self._as_shown(line) for line in reader.lines]

    def history(self, node: Node, group: Group) -> list[Shown]:
        request = s.ReadHistory(group, limit=_HISTORY)
        found = self._nodes[node].call(op.HISTORY, request)
        return [self._as_shown(line) for line in found]

    def _as_shown(self, line: s.Message) -> Shown:
        author, number = self._said.get(line.message, (line.sender_name, 0))
        return Shown(line.message, author, number, line.text)

    def ledger(self, node: Node, message: Message) -> list[Owed]:
        rows = self._nodes[node].call(op.LEDGER, s.ByMessage(message))
        return [Owed(row.name, row.state, row.reason) for row in rows]

    def note(self, text: str) -> None:
        line = f"{self.now:8.3f}  {text}"
        self._lines.append(line)
        if self.print_lines:
            print(line, flush=True)

    @property
    def lines(self) -> deque[str]:
        """The event log, and the end of what every process logged."""
        words = [
            f"{log.stem}: {line}"
            for log in sorted(self._folder.glob("*.log"))
            for line in log.read_text(errors="replace").splitlines()[-_LAST_WORDS:]
        ]
        return deque([*self._lines, *words])

    # --- of this stage alone

    def healed(self, node: Node, timeout_s: float) -> dict[str, Any] | None:
        """What the node's user was told of a fork that was healed; None when they were told of
        none: both came in one moment. Raises StepFailed."""
        try:
            event = self._nodes[node].healed(timeout_s)
        except StepFailed:
            if self._nodes[node].was_split:
                raise
            return None
        self.events["group-healed"] += 1
        self.note(f"{node} is told: {event}")
        return event


def _cannot(what: str) -> Fault:
    return Fault("not-in-this-tier", f"real processes cannot {what}", blame=Blame.CALLER)
