"""Who waits for mail in which mailbox; woken when a parcel for it is on disk."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from relay.store.contract import MailboxName


class Arrivals:
    """Belongs to the event loop's thread. Nothing is kept for a mailbox that nobody watches."""

    def __init__(self) -> None:
        self._watchers: dict[MailboxName, set[asyncio.Event]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._watchers.values()))

    @contextmanager
    def watch(self, name: MailboxName) -> Iterator[asyncio.Event]:
        """An event that is set when mail arrives; clear it BEFORE looking into the mailbox."""
        event = asyncio.Event()
        self._watchers.setdefault(name, set()).add(event)
        try:
            yield event
        finally:
            watchers = self._watchers[name]
            watchers.discard(event)
            if not watchers:
                del self._watchers[name]

    def announce(self, name: MailboxName) -> None:
        """Mail for it is on disk."""
        for event in self._watchers.get(name, ()):
            event.set()

    def wake_all(self) -> None:
        for name in self._watchers:
            self.announce(name)
