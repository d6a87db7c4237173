"""A real node in a place of its own, and a real relay that can be told to withhold."""

from __future__ import annotations

import signal
import sys
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import apsw

from node.demo.processes import Daemon, Person, StepFailed, environment
from node.home import create_home
from simulation.processes.network import Place
from simulation.processes.talk import Controlled

_PORT: Final = 7000
_BUSY_MS: Final = 5000
_ROOT: Final = Path(__file__).parents[2]


@dataclass
class NodeProcess(Person, Controlled):
    """Somebody whose node runs at a place; `options` are more words for `run`."""

    place: Place | None = None
    options: tuple[str, ...] = ()
    stopped = False

    def init(self) -> None:
        """As the command of that name, without the half second that a process costs."""
        create_home(self.home, self.name)

    def run(self) -> None:
        """Start the node and wait until it is ready. Raises StepFailed."""
        assert self.place is not None
        where = ("--no-mdns", "--listen", f"{self.place.address}:{_PORT}")
        self.node = Daemon(
            f"{self.name}'s node",
            [*self.place.enter, *self._command(), "-v", "run", *where, *self.options],
            self.home.with_suffix(".log"),
            environment(),
        )
        self.device = str(self.node.ready["device"])

    def sleep(self) -> None:
        """Nothing of it runs; its sockets stay."""
        self._signal(signal.SIGSTOP)

    def wake(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        assert self.node is not None
        self.node.process.send_signal(number)
        self.stopped = number is signal.SIGSTOP

    def epoch_id(self, group: str) -> str:
        """Where it stands, from its disk: members of one epoch number may be of two branches.

        Empty when it does not know the group.
        """
        connection = apsw.Connection(str(self.home / "node.db"), flags=apsw.SQLITE_OPEN_READONLY)
        try:
            connection.set_busy_timeout(_BUSY_MS)
            found = connection.execute(
                "SELECT epoch_id FROM groups WHERE id = ?", (bytes.fromhex(group),)
            ).fetchone()
        finally:
            connection.close()
        return bytes(found[0]).hex() if found else ""

    def healed(self, timeout_s: float) -> dict[str, Any]:
        """The next `group-healed` that its user is told. Raises StepFailed."""
        assert self.node is not None
        return self.node.wait_for("group-healed", timeout_s)

    def end(self) -> None:
        """No process is left. Raises StepFailed when it ended before."""
        if self.node is None:
            return
        if self.stopped:
            self.wake()
        died = self.node.died
        self.node.stop()
        if died:
            raise StepFailed(f"{self.name}'s node died")


class RelayProcess:
    """A relay at a place; nodes take its `address`."""

    def __init__(self, folder: Path, place: Place) -> None:
        self.place = place
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
