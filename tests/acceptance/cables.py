"""Real nodes on one machine, with cables between them that can be pulled out."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from node.api import operations as op
from node.api import shapes as s
from simulation.processes.node_process import NodeProcess
from simulation.processes.talk import Talk

GROUP = "harbour"
COMMAND_S = 30.0


class Cast:
    """Real nodes on loopback, whose cables can be pulled out; ended with the test."""

    def __init__(self, folder: Path, *names: str) -> None:
        self._folder = folder
        self.people = [self._person(name) for name in names]

    def _person(self, name: str) -> NodeProcess:
        program = (sys.executable, "-m", "tests.acceptance.severable", str(self._severed(name)))
        person = NodeProcess(name, self._folder, program=program)
        person.run()
        return person

    def _severed(self, name: str) -> Path:
        return self._folder / f"{name}-severed"

    @contextlib.contextmanager
    def severed(self, one: NodeProcess, other: NodeProcess) -> Iterator[None]:
        """Nothing passes between the two."""
        self._severed(one.name).write_text(str(other.port))
        self._severed(other.name).write_text(str(one.port))
        try:
            yield
        finally:
            self._severed(one.name).unlink()
            self._severed(other.name).unlink()

    def found(self, members: int) -> Talk:
        """The first makes a group with the next ones; all know all, and talk."""
        founder, *others = self.people[:members]
        founder.knows(*self.people[1:])
        group = founder.call(op.CREATE_GROUP, s.CreateGroup(GROUP)).group
        founder.call(op.INVITE, s.Invite(group, [each.identity for each in others]))
        for each in others:
            each.join(group)
        talk = Talk(group, self.people[:members])
        talk.check()
        return talk

    def at_once(self, *told: tuple[NodeProcess, str]) -> None:
        """Each runs a command at the same instant; all end well."""
        running = [person.begin(*words.split()) for person, words in told]
        for (_, words), process in zip(told, running, strict=True):
            out, _ = process.communicate(timeout=COMMAND_S)
            assert process.returncode == 0, (words, out)

    def end(self) -> None:
        with contextlib.ExitStack() as ends:
            for person in self.people:
                ends.callback(person.end)


MakeCast = Callable[..., Cast]
