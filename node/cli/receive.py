"""`recv`: messages written out first, and only then acknowledged to the cursor."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from node.cli.output import Output, clean, clean_lines
from node.cli.sentences import OF_BRANCHES, tell
from node.cli.state import TimedOut

if TYPE_CHECKING:
    from node.api.session import Session
    from node.api.shapes import Message

_BATCH: Final = 200
_NOT_NEWS: Final = frozenset({"ledger", "contact-changed", "dht-lookup"})


class Receiver:
    """Takes messages for one cursor; each line is at least once on standard output."""

    def __init__(
        self, session: Session, out: Output, group: str, cursor: str, count: int | None
    ) -> None:
        self._session = session
        self._out = out
        self._group = group
        self._cursor = cursor
        self._left = count
        self._written = 0

    def take(self) -> int:
        """Write out what is there, up to the count; how many that was."""
        from node.api import operations as op
        from node.api.shapes import ReadMessages

        before = self._written
        while self._left is None or self._left > 0:
            limit = _BATCH if self._left is None else min(_BATCH, self._left)
            batch = self._session.call(
                op.READ_MESSAGES, ReadMessages(self._cursor, self._group, limit)
            )
            if not batch:
                break
            self._write(batch)
        return self._written - before

    def look(self) -> None:
        """What is there now, relays included."""
        from node.api import operations as op
        from node.api.shapes import Nothing

        for event in self._session.events(cursor=self._cursor):
            if event["event"] == "subscribed":
                self._session.call(op.LOOK, Nothing())
                self.take()
                return

    def wait(self, timeout_s: float) -> None:
        """Until something came, or as many as the count says. Raises TimedOut."""
        for event in self._session.events(time.monotonic() + timeout_s, cursor=self._cursor):
            if event["event"] not in _NOT_NEWS and self._came():
                return
        raise TimedOut(
            f"{self._written or 'no'} message{'s' if self._written > 1 else ''} "
            f"came within {timeout_s:g} s"
        )

    def _came(self) -> bool:
        self.take()
        return self._written > 0 if self._left is None else self._left == 0

    def follow(self, timeout_s: float | None) -> None:
        """Everything, as it comes, until the count or the timeout. Raises TimedOut for nothing."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        for event in self._session.events(deadline, cursor=self._cursor):
            if event["event"] in OF_BRANCHES and self._concerns(event):
                tell(self._out, event)
            if event["event"] not in _NOT_NEWS:
                self.take()
            if self._left == 0:
                return
        if not self._written or self._left:
            raise TimedOut(f"{self._written or 'no'} messages came within {timeout_s:g} s")

    def _write(self, batch: list[Message]) -> None:
        written: list[Message] = []
        try:
            for message in batch:
                self._out.result(message.to_json(), line_of(message))
                self._written += 1
                if self._left is not None:
                    self._left -= 1
                written.append(message)
        finally:
            self._acknowledge(written, batch[len(written) :])

    def _acknowledge(self, written: list[Message], rest: list[Message]) -> None:
        """Move the cursor as far as nothing is skipped: a batch is not in order of arrival."""
        from node.api import operations as op
        from node.api.reading import seen
        from node.api.shapes import MoveCursor

        if far := seen(written, rest):
            self._session.call(op.MOVE_CURSOR, MoveCursor(self._cursor, far))

    def _concerns(self, event: dict[str, Any]) -> bool:
        """Whether it is about the group that is followed, if one is."""
        from node.api import operations as op
        from node.api.shapes import ByGroup

        if not self._group:
            return True
        return bool(self._session.call(op.GROUP, ByGroup(self._group)).group == event["group"])


def local_minute(utc: str) -> str:
    """A time in UTC as people here write it, to the minute."""
    from datetime import datetime

    return datetime.fromisoformat(utc).astimezone().strftime("%Y-%m-%d %H:%M")


def line_of(message: Message) -> str:
    head = (
        f"{local_minute(message.sent_at)} {clean(message.group_name) or 'to you'} · "
        f"{clean(message.sender_name) or message.sender[:12]}: "
    )
    return head + clean_lines(message.text, "    ")
