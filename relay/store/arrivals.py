"""Who waits for mail in which mailbox; woken when a parcel for it is on disk."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from relay.store.contract import MailboxName
from transport.compact import Signal

PREFIX_LENGTH = 6  # bytes of a recipient's key that a notice from another process holds


class Arrivals:
    """Belongs to the event loop's thread. Nothing is kept for a mailbox that nobody watches."""

    def __init__(self) -> None:
        self._watchers: dict[MailboxName, set[Signal]] = {}
        self._names: dict[bytes, set[MailboxName]] = {}  # that are watched, by prefix

    def __len__(self) -> int:
        return sum(map(len, self._watchers.values()))

    @contextmanager
    def watch(self, name: MailboxName) -> Iterator[Signal]:
        """An event that is set when mail arrives; clear it BEFORE looking into the mailbox."""
        event = Signal()
        self._watchers.setdefault(name, set()).add(event)
        prefix = bytes(name.recipient)[:PREFIX_LENGTH]
        self._names.setdefault(prefix, set()).add(name)
        try:
            yield event
        finally:
            watchers = self._watchers[name]
            watchers.discard(event)
            if not watchers:
                del self._watchers[name]
                self._names[prefix].discard(name)
                if not self._names[prefix]:
                    del self._names[prefix]

    def announce(self, name: MailboxName) -> None:
        """Mail for it is on disk."""
        for event in self._watchers.get(name, ()):
            event.set()

    def announce_prefix(self, prefix: bytes) -> None:
        """Mail is on disk for somebody whose key begins so."""
        for name in self._names.get(prefix, ()):
            self.announce(name)

    def wake_all(self) -> None:
        for name in self._watchers:
            self.announce(name)
