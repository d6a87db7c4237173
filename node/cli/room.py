"""One conversation as `chat` shows it: its last messages, and how far each of ours has come."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

from node.api import operations as op
from node.api import shapes as s
from node.cli.output import clean, clean_lines
from node.cli.sentences import OF_BRANCHES, sentence
from node.cli.waiting import status_of
from node.client import Group, Message, Node
from schemas.errors import Fault

HISTORY: Final = 50
TICKS: Final = {
    "queued": "…",
    "sent": "✓",
    "carried": "✓",
    "held": "⇡",
    "delivered": "✓✓",
    "read": "✓✓",
    "expired": "✗",
    "refused": "✗",
}
_OF_THE_GROUP: Final = OF_BRANCHES | {"members", "left", "removed"}
_CURSOR: Final = "default"  # what a person has seen here, they have seen


@dataclass(slots=True)
class Entry:
    """A message, and for one of ours the state of the recipient that is least far."""

    message: Message
    status: str = ""

    @property
    def own(self) -> bool:
        return self.message.own

    @property
    def tick(self) -> str:
        return TICKS.get(self.status.split(" ")[0], "") if self.own else ""

    def text(self) -> tuple[str, str, str]:
        """Time, name and words, safe to show."""
        message = self.message
        name = "you" if self.own else clean(message.sender_name) or message.sender[:12]
        return local_time(message.sent_at), name, clean_lines(message.text, "      ")


def local_time(utc: str) -> str:
    """HH:MM here, of a time in UTC; the day too, when it is not today."""
    from datetime import datetime

    then = datetime.fromisoformat(utc).astimezone()
    same = then.date() == datetime.now().astimezone().date()
    return then.strftime("%H:%M" if same else "%d %b %H:%M")


async def find_group(node: Node, target: str, peer_key: str | None) -> Group:
    """The group called `target`, else the one-to-one group with that person.

    Raises Refused `unknown-group`, `unknown-person`, and what making a group raises.
    """
    if peer_key is not None:
        return await node.direct(peer_key)
    try:
        return await node.group(target)
    except Fault as fault:
        if fault.code != "unknown-group":
            raise
        no_group = fault
    try:
        return await node.direct(target)
    except Fault as fault:
        raise no_group if fault.code == "unknown-person" else fault from None


class Room:
    """Holds the entries; `changes` brings them up to date."""

    def __init__(self, node: Node, group: Group) -> None:
        self.group = group
        self.entries: list[Entry] = []
        self._node = node
        self._seen = 0

    async def changes(self) -> AsyncIterator[str]:
        """Yields after each change: "" or, now and then, a line to show."""
        async for event in self._node.events():
            kind = event["event"]
            about = event.get("group")
            if kind in ("subscribed", "lagged"):
                await self.look()
                for entry in self.entries:
                    await self._ask_status(entry)
                yield ""
            elif kind == "message" and about == self.group.group:
                await self.look()
                yield ""
            elif kind == "ledger" and await self._heard_of(str(event["message"])):
                yield ""
            elif kind in _OF_THE_GROUP and about == self.group.group:
                self.group = await self._node.group(self.group.group)
                yield clean(sentence(event) or "")

    async def send(self, text: str) -> None:
        """Raises the Fault that refuses it."""
        sent = await self._node.send(self.group.group, text)
        await self.look()
        for entry in self.entries:
            if entry.message.message == sent.message and not entry.status:
                entry.status = sent.status
                await self._ask_status(entry)  # alone in a group, there is no event to come

    async def look(self) -> None:
        """Take what is new, and say that it was seen."""
        new = await self._node.history(self.group.group, after=self._seen, limit=HISTORY)
        known = {entry.message.message for entry in self.entries}
        self.entries += [Entry(message) for message in new if message.message not in known]
        if new:
            self._seen = max(message.arrival for message in new)
            far = [s.Seen(self.group.group, self._seen)]
            await self._node.ask(op.MOVE_CURSOR, s.MoveCursor(_CURSOR, far))

    async def _heard_of(self, message: str) -> bool:
        for entry in reversed(self.entries):
            if entry.message.message == message:
                return await self._ask_status(entry)
        return False

    async def _ask_status(self, entry: Entry) -> bool:
        if not entry.own or entry.status == "read":
            return False
        rows = await self._node.ledger(entry.message.message)
        before = entry.status
        everybody = bool(rows) and all(row.state == "read" for row in rows)
        entry.status = "read" if everybody else status_of(rows, before)
        return entry.status != before
