"""How many bytes the relay holds for all its callers at one moment: one budget for all of them, of
which each address prefix may hold a share.

What counts: calls, from their first byte until they are answered; answers and pushed batches, from
before they are read from the store until they are on their way. What waits for the disk has a bound
of its own (relay/store/sqlite/writer.py). What came by itself is counted in any case, and new calls
are refused while there is too much; what the relay would read for somebody waits for its turn.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from relay.limits import MEMORY_RETRY_MS, MEMORY_WAIT_S
from relay.refusals import TryLater
from schemas.errors import Fault

if TYPE_CHECKING:
    from relay.call import Call

SENT_DEADLINE_S: Final = 30.0  # then a connection that takes nothing is over anyway


class Memory:
    """A budget, or a share `of` one: what is held of the share counts in both.

    Belongs to the event loop's thread.
    """

    def __init__(self, limit: int, of: Memory | None = None) -> None:
        self.limit = limit
        self._of = of
        self.held = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @property
    def full(self) -> bool:
        return self.held >= self.limit or (self._of is not None and self._of.full)

    def note(self, change: int) -> bool:
        """So many bytes came, or went (a negative number); whether that is within the budget."""
        self.held += change
        if change < 0:
            self._wake()
        within = self._of is None or self._of.note(change)
        return within and self.held <= self.limit

    async def take(self, size: int, wait_s: float = MEMORY_WAIT_S) -> None:
        """Count `size` bytes when there is room for them, in the order of asking.

        One that is larger than the budget has room when nothing is held. Raises TryLater `busy`.
        """
        await self._take_here(size, wait_s)
        if self._of is None:
            return
        try:
            await self._of.take(size, wait_s)
        except BaseException:
            self._give_back(size)
            raise

    def has_room(self, size: int) -> bool:
        """In this share; in the whole there may be none."""
        return not self.held or self.held + size <= self.limit

    async def _take_here(self, size: int, wait_s: float) -> None:
        if not self._waiting and self.has_room(size):
            self.held += size
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        place = (size, turn)
        self._waiting.append(place)
        try:
            async with asyncio.timeout(wait_s):
                await turn
        except (TimeoutError, asyncio.CancelledError) as error:
            if turn.cancelled():
                with suppress(ValueError):
                    self._waiting.remove(place)
                self._wake()  # a smaller one may fit
            else:
                self._give_back(size)  # given and given up in one moment
            if isinstance(error, TimeoutError):
                raise busy() from None
            raise

    def _give_back(self, size: int) -> None:
        self.held -= size
        self._wake()

    def _wake(self) -> None:
        while self._waiting and self.has_room(self._waiting[0][0]):
            size, turn = self._waiting.popleft()
            if not turn.done():
                self.held += size
                turn.set_result(None)


def busy() -> TryLater:
    return TryLater(
        "busy",
        "the relay has as much under way as it has memory for",
        retry_after_ms=MEMORY_RETRY_MS,
        hint="it goes on by itself, later",
    )


class answering:
    """`async with answering(call, most) as answer:` around reading what an answer will hold.

    `most` bytes are taken first; `answer.size` is set to what it is, and counts until all that
    ended methods of the stream answer is written to it. Raises TryLater `busy`.
    """

    def __init__(self, call: Call, most: int) -> None:
        self._call = call
        self._most = most
        self.size = 0

    async def __aenter__(self) -> answering:
        await self._call.caller.memory.take(self._most)
        return self

    async def __aexit__(self, *raised: object) -> None:
        memory = self._call.caller.memory
        if self.size:
            work = _sent(self._call)
            task = self._call.caller.start(work, name="sent")
            task.add_done_callback(lambda _: memory.note(-self.size))
        memory.note(self.size - self._most)


async def _sent(call: Call) -> None:
    """Begins to run when the method has ended: nothing is awaited behind the block."""
    with suppress(Fault):
        await call.line.rpc.answered(SENT_DEADLINE_S)
