"""What users of real nodes do, everything they say, and what must be true of that in the end."""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeVar

import apsw

from node.api import operations as op
from node.api import shapes as s
from node.api.client import Client, NodeGone, NotRunning
from node.api.operations import A, Operation, Q
from schemas.errors import Fault

SETTLE_S: Final = 45.0
LOOK_S: Final = 0.02
_BUSY_MS: Final = 5000
SETTLED: Final = ("delivered", "read")

R = TypeVar("R")


def wait_until(look: Callable[[], R | None], what: str, deadline_s: float = SETTLE_S) -> R:
    """The first answer of `look` that is not None or False; AssertionError after the deadline."""
    deadline = time.monotonic() + deadline_s
    while True:
        found = look()
        if found is not None and found is not False:
            return found
        assert time.monotonic() < deadline, f"not within {deadline_s:g} s: {what}"
        time.sleep(LOOK_S)


class Controlled:
    """A node that runs in another process, driven through the control socket of its home."""

    name: str
    device: str  # of its account, hex

    @property
    def home(self) -> Path:
        raise NotImplementedError

    def call(self, operation: Operation[Q, A], request: Q) -> A:
        """Raises the Fault; NotRunning and NodeGone are among them."""
        return Client(self.home).call(operation, request)

    def knows(self, *others: Controlled) -> None:
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

    def states(self, message: str) -> dict[str, str]:
        """The ledger of an own message: state by recipient's device."""
        rows = self.call(op.LEDGER, s.ByMessage(message))
        return {row.device: row.state for row in rows}


@dataclass
class Reader:
    """`recv` with a cursor of its own: what is shown, and what it has acknowledged."""

    node: Controlled
    cursor: str
    group: str
    shown: dict[str, str] = field(default_factory=dict)  # message id: text
    lines: list[s.Message] = field(default_factory=list)  # each time that it was written out
    acknowledged: set[str] = field(default_factory=set)
    twice: list[str] = field(default_factory=list)

    def page(self) -> list[s.Message]:
        """What the cursor has not acknowledged; a line that it has must not come again."""
        page = self.node.call(op.READ_MESSAGES, s.ReadMessages(self.cursor, self.group))
        ids = [message.message for message in page]
        self.twice += [each for each, count in Counter(ids).items() if count > 1]
        self.twice += [each for each in ids if each in self.acknowledged]
        self.shown |= {message.message: message.text for message in page}
        self.lines += page
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
    sender: Controlled
    text: str


class Talk:
    """One group, everything that was said in it, and what must be true of that in the end."""

    def __init__(self, group: str, members: Sequence[Controlled]) -> None:
        self.group = group
        self.members = list(members)
        self.founders = list(members)  # the others joined later
        self.accepted: list[Accepted] = []
        self.unsure: list[str] = []  # texts whose send died: may be there, but not twice
        self.readers = {node.name: Reader(node, "default", group) for node in members}
        self._count = itertools.count(1)

    def join(self, node: Controlled) -> None:
        """Somebody new: earlier messages are not for them."""
        self.members.append(node)
        if not self.accepted:
            self.founders.append(node)
        self.readers[node.name] = Reader(node, "default", self.group)

    def say(self, sender: Controlled, text: str = "") -> Accepted | None:
        """None when the node died before it answered. Each text is said once."""
        text = text or f"{sender.name} says {next(self._count)}"
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

    def must_say(self, sender: Controlled) -> Accepted:
        said = self.say(sender)
        assert said is not None, f"{sender.name} could not send"
        return said

    def reader(self, node: Controlled) -> Reader:
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
        self, earlier: list[Accepted], late: list[Accepted], newcomers: list[Controlled]
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
        def epochs() -> set[tuple[int, str, str]]:
            found = [(node, node.group(self.group)) for node in self.members]
            return {(group.epoch, group.status, node.epoch_id(self.group)) for node, group in found}

        def agreed() -> bool:
            found = epochs()
            return len(found) == 1 and {status for _, status, _ in found} == {"active"}

        try:
            wait_until(agreed, "the members agree on the epoch", deadline_s)
        except AssertionError:
            raise AssertionError(f"the members stand at different epochs: {epochs()}") from None

    def _check_ledger(self, deadline: float) -> None:
        members = {node.device for node in self.members}  # who is out is owed nothing
        assert "" not in members
        for said in self.accepted:
            while True:
                try:
                    states = said.sender.states(said.id)
                except Fault as fault:
                    raise AssertionError(f"{said.text!r} is gone at its sender: {fault}") from fault
                if all(state in SETTLED for device, state in states.items() if device in members):
                    break
                assert time.monotonic() < deadline, f"{said.text!r} stays {states}"
                time.sleep(LOOK_S)
