"""Events for users and scripts: from the engine to every subscriber, each at its own speed."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Final, Self

from node.engine.values import Event

WAITING: Final = 1000  # events per subscriber; then it has lagged

LAGGED: Final = Event("lagged", {})


class EventHub:
    """Who subscribed, and what they have not taken yet."""

    def __init__(self, waiting: int = WAITING) -> None:
        self._waiting = waiting
        self._subscribers: set[Subscription] = set()

    def publish(self, event: Event) -> None:
        for subscriber in self._subscribers:
            subscriber.put(event)

    @contextmanager
    def subscribe(self) -> Iterator[AsyncIterator[Event]]:
        """Events from now on. A slow reader gets `lagged` once in place of what it missed."""
        subscriber = Subscription(self._waiting)
        self._subscribers.add(subscriber)
        try:
            yield subscriber
        finally:
            self._subscribers.discard(subscriber)
            subscriber.end()

    def close(self) -> None:
        """All subscriptions end after what waits in them."""
        for subscriber in self._subscribers:
            subscriber.end()


class Subscription:
    """An async iterator of events; one reader at a time."""

    def __init__(self, waiting: int) -> None:
        self._events: deque[Event] = deque()
        self._limit = waiting
        self._wake = asyncio.Event()
        self._ended = False

    def put(self, event: Event) -> None:
        if len(self._events) >= self._limit:
            self._events.clear()
            self._events.append(LAGGED)
        self._events.append(event)
        self._wake.set()

    def end(self) -> None:
        self._ended = True
        self._wake.set()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        while not self._events:
            if self._ended:
                raise StopAsyncIteration
            self._wake.clear()
            await self._wake.wait()
        return self._events.popleft()
