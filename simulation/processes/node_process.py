"""A real node in a place of its own, and a real relay that can be told to withhold."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol, Self

from node.api import operations as op
from node.api import shapes as s
from node.demo.processes import NODE, Daemon, Person, StepFailed, environment
from node.home import create_home
from simulation.processes.network import Place
from simulation.processes.talk import Controlled

_PORT: Final = 7000
_ROOT: Final = Path(__file__).parents[2]


class Somewhere(Protocol):
    """A namespace with an address; `enter` before a command runs that command there."""

    @property
    def address(self) -> str: ...

    @property
    def enter(self) -> tuple[str, ...]: ...


@dataclass
class NodeProcess(Person, Controlled):
    """Somebody whose node `program` runs; `options` are more words for `run`."""

    listen: str = "127.0.0.1:0"
    program: tuple[str, ...] = NODE
    options: tuple[str, ...] = ()
    stopped = False

    @classmethod
    def at(cls, place: Place, name: str, folder: Path, *options: str) -> Self:
        """One whose node runs in that namespace; its user's commands need not."""
        listen = f"{place.address}:{_PORT}"
        return cls(name, folder, listen=listen, program=(*place.enter, *NODE), options=options)

    def run(self) -> None:
        """Make the account if there is none, start the node, wait until it is ready.

        Raises StepFailed.
        """
        if not self.home.exists():
            create_home(self.home, self.name)
        words = ("--home", str(self.home), "--json", "-v", "run", "--no-mdns")
        self.node = Daemon(
            f"{self.name}'s node",
            [*self.program, *words, "--listen", self.listen, *self.options],
            self.home.with_suffix(".log"),
            {**environment(), "PYTHONPATH": str(_ROOT)},
        )
        account = self.call(op.WHOAMI, s.Nothing())
        self.identity, self.device = account.identity, account.device

    def begin(self, *words: str) -> subprocess.Popen[str]:
        """A command of its user, started and not waited for."""
        return subprocess.Popen(
            [*self._command(), *words], stdout=subprocess.PIPE, text=True, env=environment()
        )

    def sleep(self) -> None:
        """Nothing of it runs; its sockets stay."""
        self._signal(signal.SIGSTOP)

    def wake(self) -> None:
        """Goes on where it was; nothing happens to one that is awake."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        assert self.node is not None
        self.node.process.send_signal(number)
        self.stopped = number is signal.SIGSTOP

    def healed(self, timeout_s: float) -> dict[str, Any]:
        """The next `group-healed` that its user is told. Raises StepFailed."""
        assert self.node is not None
        return self.node.wait_for("group-healed", timeout_s)

    @property
    def was_split(self) -> bool:
        """Its user was told so; who hears of a fork and of its end at once is told of neither."""
        return self.node is not None and "group-split" in self.node.heard

    def end(self) -> None:
        """No process is left. Raises StepFailed when it ended before."""
        if self.node is None:
            return
        died = self.node.died
        self.node.kill()
        if died:
            raise StepFailed(f"{self.name}'s node died")


class RelayProcess:
    """A relay at a place; nodes take its `address`."""

    def __init__(self, folder: Path, place: Somewhere) -> None:
        self._withheld = folder / "withheld"
        program = [sys.executable, "-m", "simulation.processes.withholding_relay"]
        where = ["--listen", f"{place.address}:{_PORT}", "--data-dir", str(folder / "relay")]
        self._daemon = Daemon(
            "the relay",
            [*place.enter, *program, str(self._withheld), "run", "--json", *where],
            folder / "relay.log",
            {**environment(), "PYTHONPATH": str(_ROOT)},
        )
        self.address = str(self._daemon.ready["address"])

    def withhold(self, devices: Collection[str]) -> None:
        """What is for these devices stays, and the relay says that there is nothing."""
        written = self._withheld.with_suffix(".new")
        written.write_text("\n".join(devices))
        written.replace(self._withheld)

    def end(self) -> None:
        self._daemon.stop()
