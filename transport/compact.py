"""Things that every connection has and hardly one uses: next to nothing while they are not in use.

An empty `collections.deque` takes 760 bytes, an `asyncio.Event` 900 with its own; a peer may fill
what is a queue here, so a list, which is slow to shorten from the front, is no way out.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Iterator
from typing import Final, Generic, TypeVar

from aioquic._crypto import AEAD
from aioquic.quic.recovery import MAX_ACK_RANGES, QuicPacketNumberWindow

T = TypeVar("T")


class Queue(Generic[T]):
    """A `deque` as long as something is in it; `most` as its `maxlen`."""

    __slots__ = ("_items", "_most")

    def __init__(self, most: int | None = None) -> None:
        self._items: deque[T] | None = None
        self._most = most

    def append(self, item: T) -> None:
        if self._items is None:
            self._items = deque(maxlen=self._most)
        self._items.append(item)

    def appendleft(self, item: T) -> None:
        if self._items is None:
            self._items = deque(maxlen=self._most)
        self._items.appendleft(item)

    def popleft(self) -> T:
        """Raises IndexError when there is none."""
        items = self._items
        if items is None:
            raise IndexError("the queue is empty")
        item = items.popleft()
        if not items:
            self._items = None
        return item

    def clear(self) -> None:
        self._items = None

    def __iter__(self) -> Iterator[T]:
        return iter(self._items or ())

    def __getitem__(self, index: int) -> T:
        return (self._items or ())[index]

    def __len__(self) -> int:
        return 0 if self._items is None else len(self._items)


class Signal:
    """As `asyncio.Event`."""

    __slots__ = ("_is_set", "_waiters")

    def __init__(self, *, is_set: bool = False) -> None:
        self._is_set = is_set
        self._waiters: list[asyncio.Future[None]] = []

    def is_set(self) -> bool:
        return self._is_set

    def set(self) -> None:
        if not self._is_set:
            self._is_set = True
            for waiter in self._waiters:
                if not waiter.done():
                    waiter.set_result(None)

    def clear(self) -> None:
        self._is_set = False

    async def wait(self) -> None:
        """Until `set`, also if `clear` follows at once."""
        if self._is_set:
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            await waiter
        finally:
            self._waiters.remove(waiter)


class ReceivedNumbers:
    """Which packets were received, as aioquic's window of them says it, in 44 bytes: its set of
    numbers takes up to 16 KiB, an idle connection's after three quarters of an hour."""

    __slots__ = ("_bits", "_highest")

    SIZE: Final = 2 * MAX_ACK_RANGES
    _ALL: Final = (1 << SIZE) - 1

    def __init__(self, window: QuicPacketNumberWindow) -> None:
        self._highest = -1
        self._bits = 0  # of the highest and those below it
        for number in sorted(window._received):
            self.add(number)

    def add(self, number: int) -> None:
        ahead = number - self._highest
        if ahead >= self.SIZE:
            self._bits, self._highest = 1, number
        elif ahead > 0:
            self._bits = (self._bits << ahead | 1) & self._ALL
            self._highest = number
        elif ahead > -self.SIZE:
            self._bits |= 1 << -ahead

    def __contains__(self, number: int) -> bool:
        """Also what is older than the window."""
        behind = self._highest - number
        return behind >= self.SIZE or (behind >= 0 and bool(self._bits >> behind & 1))


_PAUSE_S = 1.0


class PausingAead:
    """aioquic's AEAD, whose 2.3 KiB in OpenSSL are kept while packets follow one another.

    Of a connection that is idle each packet comes after a pause: it makes what it needs anew, in
    2 us, and lets it go.
    """

    __slots__ = ("_aead", "_made_from", "_used_at")

    def __init__(self, cipher_name: bytes, key: bytes, iv: bytes) -> None:
        self._made_from = cipher_name, key, iv
        self._aead: AEAD | None = None
        self._used_at = 0.0

    def encrypt(self, data: bytes, associated_data: bytes, packet_number: int) -> bytes:
        return self._at_work().encrypt(data, associated_data, packet_number)

    def decrypt(self, data: bytes, associated_data: bytes, packet_number: int) -> bytes:
        """Raises CryptoError."""
        return self._at_work().decrypt(data, associated_data, packet_number)

    def _at_work(self) -> AEAD:
        aead = self._aead
        now = time.monotonic()
        paused = now - self._used_at > _PAUSE_S
        self._used_at = now
        if aead is None:
            aead = AEAD(*self._made_from)
        self._aead = None if paused else aead
        return aead
