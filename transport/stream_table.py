"""Which streams of a connection exist: opened by either side, waiting to be accepted, forgotten."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

from .stream import Stream


class StreamTable:
    """The open streams by id. `make` builds one; `refuse` is told of one too many.

    Streams of a connection that we dialled have even ids when we open them (RFC 9000, 2.1).
    """

    def __init__(
        self,
        *,
        dialed: bool,
        accept_queue: int,
        make: Callable[[int], Stream],
        refuse: Callable[[Stream], None],
    ) -> None:
        self._dialed = dialed
        self._accept_queue = accept_queue
        self._make = make
        self._refuse = refuse
        self._open: dict[int, Stream] = {}
        self._seen = 0  # opened by the peer, as a count of ids of that kind
        self._unseen: set[int] = set()  # below that count, with no data yet
        self._waiting: list[Stream] = []  # `accept_queue` of them at most
        self._acceptors: list[asyncio.Future[None]] = []

    def __len__(self) -> int:
        return len(self._open)

    def __iter__(self) -> Iterator[Stream]:
        return iter(list(self._open.values()))

    def add(self, stream_id: int) -> Stream:
        stream = self._open[stream_id] = self._make(stream_id)
        return stream

    def forget(self, stream_id: int) -> bool:
        """Late data of a forgotten id is dropped by `find`. False when it was forgotten before."""
        return self._open.pop(stream_id, None) is not None

    def find(self, stream_id: int) -> Stream | None:
        """The stream that an event is about, opened if it is new, None if it is long finished."""
        stream = self._open.get(stream_id)
        if stream is not None:
            return stream
        if (stream_id & 1 == 0) == self._dialed:
            return None  # ours, and forgotten
        index = stream_id // 4
        if index >= self._seen:
            # Opening a stream opens all lower ones of its kind (RFC 9000, 2.1), whose data may
            # come later; the peer's stream limit bounds how many.
            self._unseen.update(range(self._seen, index))
            self._seen = index + 1
        elif index in self._unseen:
            self._unseen.remove(index)
        else:
            return None
        stream = self.add(stream_id)
        if len(self._waiting) >= self._accept_queue:
            self._refuse(stream)
            return None
        self._waiting.append(stream)
        self._wake(everyone=False)
        return stream

    async def accept(self, check_alive: Callable[[], None]) -> Stream:
        """The next stream that the peer opened; `check_alive` raises when there will be none."""
        while not self._waiting:
            check_alive()
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._acceptors.append(waiter)
            try:
                await waiter
            finally:
                if waiter in self._acceptors:
                    self._acceptors.remove(waiter)
        return self._waiting.pop(0)

    def connection_over(self) -> None:
        """Every stream ends, and whoever waits for one looks again."""
        self._wake(everyone=True)
        for stream in self:
            stream.connection_over()
        self._open.clear()

    def _wake(self, *, everyone: bool) -> None:
        while self._acceptors:
            waiter = self._acceptors.pop(0)
            if not waiter.done():
                waiter.set_result(None)
                if not everyone:
                    return
