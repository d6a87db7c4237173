"""A relay and nodes as processes to be killed, and what must hold however they died."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apsw

from node.api import operations as op
from node.api import shapes as s
from node.demo.processes import BIN, environment
from node.home import create_home
from simulation.processes.talk import Controlled, Talk, wait_until
from tests.durability.crashing import ARMED, PRAGMAS, REACHED, VIOLATIONS, Plan
from tests.ports import free_ports

ROOT = Path(__file__).parents[2]
START_S = 30.0
STOP_S = 20.0
DEATH_S = 20.0


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
class NodeProgram(Program, Controlled):
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

    def messages_under_way(self) -> int:
        """Accepted messages times recipients that have not confirmed them, as the disk says."""
        found = self.rows(
            "SELECT count(*) FROM outbox o JOIN payloads p ON p.id = o.payload"
            " WHERE p.kind = 'message'"
        )
        return int(found[0][0])


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
