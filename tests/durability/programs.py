"""A relay and nodes as processes to be killed, and what must hold however they died."""

from __future__ import annotations

import contextlib
import itertools
import json
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import apsw

from node.api import operations as op
from node.api import shapes as s
from node.api.client import Client, NodeGone, NotRunning
from node.api.operations import Operation, Q
from node.demo.processes import BIN, environment
from node.home import create_home
from schemas.errors import Fault
from tests.durability.crashing import ARMED, PRAGMAS, REACHED, VIOLATIONS, Plan

ROOT = Path(__file__).parents[2]
START_S = 30.0
STOP_S = 20.0
DEATH_S = 20.0
SETTLE_S = 45.0
LOOK_S = 0.02

R = TypeVar("R")
A = TypeVar("A")
SETTLED = ("delivered", "read")


def wait_until(look: Callable[[], R | None], what: str, deadline_s: float = SETTLE_S) -> R:
    """The first answer of `look` that is not None or False; AssertionError after the deadline."""
    deadline = time.monotonic() + deadline_s
    while True:
        found = look()
        if found is not None and found is not False:
            return found
        assert time.monotonic() < deadline, f"not within {deadline_s:g} s: {what}"
        time.sleep(LOOK_S)


def free_ports(count: int) -> list[int]:
    """Loopback UDP ports that were free a moment ago; a restarted program binds its own again."""
    with contextlib.ExitStack() as stack:
        ports = []
        for _ in range(count):
            sock = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            sock.bind(("127.0.0.1", 0))
            ports.append(int(sock.getsockname()[1]))
        return ports


@dataclass
class Program:
    """One installation whose process is started, killed and started again."""

    name: str
    folder: Path
    port: int
    process: subprocess.Popen[bytes] | None = None
    plan: Plan | None = None
    lives: int = 0
    through: str = ""  # a module that runs the program in its own way

    @property
    def log(self) -> Path:
        return self.folder / f"{self.name}.log"

    @property
    def database(self) -> Path:
        raise NotImplementedError

    def _arguments(self) -> tuple[str, str, list[str]]:
        """(the installed program, its name for the wrapper, its arguments)"""
        raise NotImplementedError

    def launch(self, label: str = "", place: str = "", *, mutation: str = "") -> None:
        """Start the plain program; with a label or a mutation, under the wrapper. Does not wait."""
        assert self.process is None
        self.lives += 1
        script, program, arguments = self._arguments()
        command = [str(BIN / script), *arguments]
        if self.through:
            command = [sys.executable, "-m", self.through, program, *arguments]
        self.plan = None
        if label or mutation:
            folder = self.folder / f"{self.name}-{self.lives}"
            folder.mkdir()
            self.plan = Plan(str(folder), label, place, mutation)
            wrapper = [sys.executable, "-m", "tests.durability.crashing"]
            command = [*wrapper, program, self.plan.encode(), *arguments]
        self._out = self.folder / f"{self.name}-{self.lives}.out"
        with self.log.open("ab") as log, self._out.open("wb") as out:
            self.process = subprocess.Popen(
                command, stdout=out, stderr=log, env={**environment(), "PYTHONPATH": str(ROOT)}
            )

    def start(self, label: str = "", place: str = "", *, mutation: str = "") -> None:
        """`launch`, and wait for the line that says `ready`."""
        self.launch(label, place, mutation=mutation)
        self.ready = self.wait_ready()

    def wait_ready(self) -> dict[str, Any]:
        return wait_until(self.look_ready, f"{self.name} is ready", START_S)

    def look_ready(self) -> dict[str, Any] | None:
        """Its first line; None while there is none. AssertionError when it ended before."""
        with self._out.open("rb") as out:
            line = out.readline()
        if line.endswith(b"\n"):
            ready: dict[str, Any] = json.loads(line)
            assert ready.get("event") == "ready", f"{self.name} says {ready}"
            return ready
        ended = self.process is None or self.process.poll() is not None
        assert not ended, f"{self.name} ended before it was ready: {self._last_words()}"
        return None

    def _last_words(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])

    # --- ends

    def kill(self) -> None:
        """kill -9, and reap."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def stop(self) -> None:
        """As its user ends it: peers hear of it at once."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait(STOP_S)
            self.process = None

    def arm(self) -> None:
        """From now on it dies at the planned place."""
        assert self.plan is not None
        (Path(self.plan.folder) / ARMED).touch()

    @property
    def dead(self) -> bool:
        return self.process is None or self.process.poll() is not None

    def wait_death(self) -> None:
        """It died by its own SIGKILL at the planned place, and nowhere else."""
        process, plan = self.process, self.plan
        assert process is not None
        assert plan is not None
        wait_until(lambda: process.poll() is not None, f"{self.name} dies at {plan.where}", DEATH_S)
        self.process = None
        assert process.returncode == -signal.SIGKILL, self._last_words()
        assert self._said(REACHED) == [plan.where], "the boundary was not reached"

    def check_watch(self) -> None:
        """The journal rule held while it ran under the wrapper."""
        broken = self._said(VIOLATIONS)
        assert broken == [], f"the journal rule was broken: {broken}"

    def pragmas(self) -> list[dict[str, Any]]:
        """What its live connections said of themselves."""
        return [json.loads(line) for line in self._said(PRAGMAS)]

    def _said(self, name: str) -> list[str]:
        assert self.plan is not None
        path = Path(self.plan.folder) / name
        return path.read_text().splitlines() if path.exists() else []

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Stopped in its tracks; its sockets stay open."""
        process = self.process
        assert process is not None
        process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            process.send_signal(signal.SIGCONT)  # does nothing to one that was killed meanwhile

    def rows(self, sql: str, *parameters: Any) -> list[Any]:
        """What is on disk now, as another process sees it."""
        connection = apsw.Connection(str(self.database), flags=apsw.SQLITE_OPEN_READONLY)
        try:
            connection.set_busy_timeout(5000)
            return list(connection.execute(sql, parameters))
        finally:
            connection.close()


@dataclass
class RelayProgram(Program):
    @property
    def database(self) -> Path:
        return self.folder / "relay" / "relay.db"

    def _arguments(self) -> tuple[str, str, list[str]]:
        where = ["--listen", f"127.0.0.1:{self.port}", "--data-dir", str(self.folder / "relay")]
        return "quicnprotochat-relay", "relay", ["run", "--json", *where]

    @property
    def address(self) -> str:
        return str(self.ready["address"])

    def parcels(self) -> int:
        return int(self.rows("SELECT count(*) FROM parcels")[0][0])

    def parcels_for(self, device: str) -> int:
        found = self.rows(
            "SELECT parcels FROM mailboxes WHERE recipient = ?",
            bytes.fromhex(device),
        )
        return int(found[0][0]) if found else 0

    def key_packages_taken(self, device: str) -> int:
        found = self.rows(
            "SELECT count(*) FROM key_packages WHERE device = ? AND package IS NULL",
            bytes.fromhex(device),
        )
        return int(found[0][0])


@dataclass
class NodeProgram(Program):
    relay: str = ""
    identity: str = ""
    device: str = ""

    @property
    def home(self) -> Path:
        return self.folder / self.name

    @property
    def database(self) -> Path:
        return self.home / "node.db"

    def make_home(self) -> None:
        create_home(self.home, self.name)

    def _arguments(self) -> tuple[str, str, list[str]]:
        where = ["--listen", f"127.0.0.1:{self.port}", "--relay", self.relay]
        return (
            "quicnprotochat",
            "node",
            ["-v", "--home", str(self.home), "--json", "run", "--no-mdns", *where],
        )

    # --- what users do, through the control socket

    def call(self, operation: Operation[Q, A], request: Q) -> A:
        """Raises the Fault; NotRunning and NodeGone are among them."""
        return Client(self.home).call(operation, request)

    def knows(self, *others: NodeProgram) -> None:
        for other in others:
            card = other.call(op.WHOAMI, s.Nothing()).card
            self.call(op.ADD_CONTACT, s.AddContact(card))

    def group(self, group: str) -> s.Group:
        return self.call(op.GROUP, s.ByGroup(group))

    def join(self, group: str, deadline_s: float = SETTLE_S) -> s.Group:
        def accept() -> s.Group | None:
            try:
                return self.call(op.JOIN, s.ByGroup(group))
            except Fault as fault:
                if fault.code != "unknown-group":
                    raise
                return None

        return wait_until(accept, f"{self.name} is invited", deadline_s)

    def states(self, message: str) -> dict[str, str]:
        """The ledger of an own message: state by recipient's device."""
        rows = self.call(op.LEDGER, s.ByMessage(message))
        return {row.device: row.state for row in rows}

    def messages_under_way(self) -> int:
        """Accepted messages times recipients that have not confirmed them, as the disk says."""
        found = self.rows(
            "SELECT count(*) FROM outbox o JOIN payloads p ON p.id = o.payload"
            " WHERE p.kind = 'message'"
        )
        return int(found[0][0])


@dataclass
class Reader:
    """`recv` with a cursor of its own: what is shown, and what it has acknowledged."""

    node: NodeProgram
    cursor: str
    group: str
    shown: dict[str, str] = field(default_factory=dict)  # message id: text
    acknowledged: set[str] = field(default_factory=set)
    twice: list[str] = field(default_factory=list)

    def page(self) -> list[s.Message]:
        """What the cursor has not acknowledged; a line that it has must not come again."""
        page = self.node.call(op.READ_MESSAGES, s.ReadMessages(self.cursor, self.group))
        ids = [message.message for message in page]
        self.twice += [each for each, count in Counter(ids).items() if count > 1]
        self.twice += [each for each in ids if each in self.acknowledged]
        self.shown |= {message.message: message.text for message in page}
        return page

    def acknowledge(self, page: list[s.Message]) -> None:
        """The cursor has moved when this returns; when it raises, nobody knows."""
        last = max(message.arrival for message in page)
        self.node.call(op.MOVE_CURSOR, s.MoveCursor(self.cursor, [s.Seen(self.group, last)]))
        self.acknowledged |= {message.message for message in page}

    def read(self) -> None:
        """All there is. Raises Fault when the node dies."""
        while page := self.page():
            self.acknowledge(page)


@dataclass
class Accepted:
    """A message whose `send` returned 0."""

    id: str
    sender: NodeProgram
    text: str


class Talk:
    """One group, everything that was said in it, and what must be true of that in the end."""

    def __init__(self, group: str, members: list[NodeProgram]) -> None:
        self.group = group
        self.members = list(members)
        self.founders = list(members)  # the others joined later
        self.accepted: list[Accepted] = []
        self.unsure: list[str] = []  # texts whose send died: may be there, but not twice
        self.readers = {node.name: Reader(node, "default", group) for node in members}
        self._count = itertools.count(1)

    def join(self, node: NodeProgram) -> None:
        """Somebody new: earlier messages are not for them."""
        self.members.append(node)
        self.readers[node.name] = Reader(node, "default", self.group)

    def say(self, sender: NodeProgram) -> Accepted | None:
        """None when the node died before it answered."""
        text = f"{sender.name} says {next(self._count)}"
        try:
            sent = sender.call(op.SEND, s.Send(text, self.group))
        except NotRunning:
            return None  # nothing was asked: this text must never be seen
        except NodeGone:
            self.unsure.append(text)
            return None
        said = Accepted(sent.message, sender, text)
        self.accepted.append(said)
        return said

    def must_say(self, sender: NodeProgram) -> Accepted:
        said = self.say(sender)
        assert said is not None, f"{sender.name} could not send"
        return said

    def reader(self, node: NodeProgram) -> Reader:
        return self.readers[node.name]

    # --- the checker

    def check(self, deadline_s: float = SETTLE_S) -> None:
        """Nothing accepted is lost, nothing is shown twice, the group is one, all can talk.

        Raises AssertionError.
        """
        newcomers = [node for node in self.members if node not in self.founders]
        earlier = list(self.accepted)
        self._check_epochs(deadline_s)
        for node in self.members:
            self.must_say(node)
        late = self.accepted[len(earlier) :]
        deadline = time.monotonic() + deadline_s
        while missing := self._missing(earlier, late, newcomers):
            assert time.monotonic() < deadline, f"accepted and never shown: {missing}"
            time.sleep(LOOK_S)
        self._check_shown()
        self._check_ledger(deadline)

    def _missing(
        self, earlier: list[Accepted], late: list[Accepted], newcomers: list[NodeProgram]
    ) -> list[str]:
        missing = []
        for node in self.members:
            reader = self.reader(node)
            reader.read()
            expected = late if node in newcomers else [*earlier, *late]
            missing += [
                f"{said.text!r} at {node.name}"
                for said in expected
                if said.sender is not node and said.id not in reader.shown
            ]
        return missing

    def _check_shown(self) -> None:
        for node in self.members:
            reader = self.reader(node)
            assert reader.twice == [], f"shown again to {node.name} after its cursor moved"
            again = Reader(node, "afterwards", self.group)
            again.read()
            assert again.twice == []
            texts = Counter(again.shown.values())
            twice = [text for text, count in texts.items() if count > 1]
            assert twice == [], f"one send is two messages at {node.name}"
            known = {said.text for said in self.accepted} | set(self.unsure)
            assert set(texts) <= known, "a message that nobody sent"

    def _check_epochs(self, deadline_s: float) -> None:
        def epochs() -> set[tuple[int, str]]:
            found = [node.group(self.group) for node in self.members]
            return {(group.epoch, group.status) for group in found}

        def agreed() -> bool:
            found = epochs()
            return len(found) == 1 and {status for _, status in found} == {"active"}

        try:
            wait_until(agreed, "the members agree on the epoch", deadline_s)
        except AssertionError:
            raise AssertionError(f"the members stand at different epochs: {epochs()}") from None

    def _check_ledger(self, deadline: float) -> None:
        for said in self.accepted:
            while True:
                try:
                    states = said.sender.states(said.id)
                except Fault as fault:
                    raise AssertionError(f"{said.text!r} is gone at its sender: {fault}") from fault
                if set(states.values()) <= set(SETTLED):
                    break
                assert time.monotonic() < deadline, f"{said.text!r} stays {states}"
                time.sleep(LOOK_S)


class World:
    """A relay and three nodes that know each other; each keeps its port over restarts."""

    def __init__(self, folder: Path) -> None:
        ports = free_ports(4)
        self.relay = RelayProgram("the-relay", folder, ports[0])
        self.ada, self.bob, self.cy = (
            NodeProgram(name, folder, port)
            for name, port in zip(("ada", "bob", "cy"), ports[1:], strict=True)
        )
        self.nodes = [self.ada, self.bob, self.cy]

    @property
    def programs(self) -> list[Program]:
        return [self.relay, *self.nodes]

    def start(self) -> None:
        self.relay.start()
        for node in self.nodes:
            node.make_home()
            node.relay = self.relay.address
            node.launch()
        for node in self.nodes:
            ready = node.ready = node.wait_ready()
            node.device = str(ready["device"])
            node.identity = node.call(op.WHOAMI, s.Nothing()).identity
        for node in self.nodes:
            node.knows(*(other for other in self.nodes if other is not node))

    def end(self) -> None:
        for program in self.programs:
            program.kill()

    def restarted(
        self, program: Program, label: str = "", place: str = "", *, mutation: str = ""
    ) -> None:
        program.stop()
        program.start(label, place, mutation=mutation)

    def talk(self, *members: NodeProgram) -> Talk:
        """A new group with these; the first makes it."""
        first, *others = members
        made = first.call(op.CREATE_GROUP, s.CreateGroup(f"group {time.monotonic_ns()}"))
        people = [other.identity for other in others]
        first.call(op.INVITE, s.Invite(made.group, people))
        for other in others:
            other.join(made.group)
        return Talk(made.group, list(members))
