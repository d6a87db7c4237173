"""Commits together whatever queued while the last commit was under way.

No linger: a fixed wait before committing was measured to hurt at every load. A caller hears of its
job after the commit has returned, never before.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from relay.refusals import TryLater
from schemas.errors import Blame, Fault
from schemas.limits import MIB

J = TypeVar("J")
R = TypeVar("R")

BATCH_JOBS: Final = 1024  # bounds the wait of the first job in a batch
BATCH_BYTES: Final = 8 * MIB  # or one job, if that is larger
QUEUED_BYTES: Final = 64 * MIB  # what waits is in memory; above this, callers are refused
BUSY_RETRY_MS: Final = 250
JOB_COST: Final = 512  # bytes of a job besides its payload


@dataclass(frozen=True, slots=True)
class _Waiting(Generic[J, R]):
    job: J
    cost: int
    then: Callable[[R], None] | None
    done: asyncio.Future[R]


class Batcher(Generic[J, R]):
    """`flush` gets jobs in their order and answers as many outcomes, all of one transaction.

    It belongs to the event loop's thread.
    """

    def __init__(self, flush: Callable[[Sequence[J]], Awaitable[Sequence[R]]]) -> None:
        self._flush = flush
        self._queue: deque[_Waiting[J, R]] = deque()
        self._queued_bytes = 0
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    def submit(
        self, job: J, *, cost: int = 0, then: Callable[[R], None] | None = None
    ) -> asyncio.Future[R]:
        """Done once the job is on disk. `then` gets its outcome then, even if the caller has gone.

        `cost` is the bytes that it holds. Raises TryLater `busy`, Fault `store-closed`; the future,
        what `flush` does.
        """
        if self._closed:
            raise Fault("store-closed", "the store is closed", blame=Blame.CALLER)
        cost += JOB_COST
        if self._queued_bytes + cost > QUEUED_BYTES:
            raise TryLater(
                "busy",
                "the relay's database is behind",
                retry_after_ms=BUSY_RETRY_MS,
                hint="try again",
            )
        self._queued_bytes += cost
        done: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._queue.append(_Waiting(job, cost, then, done))
        if self._task is None:
            self._task = asyncio.create_task(self._work(), name="relay-batches")
        return done

    async def close(self) -> None:
        """Wait for what is queued. Idempotent."""
        self._closed = True
        if self._task is not None:
            await self._task

    async def _work(self) -> None:
        try:
            while self._queue:
                await self._commit(self._next_batch())
        finally:
            self._task = None

    def _next_batch(self) -> list[_Waiting[J, R]]:
        batch: list[_Waiting[J, R]] = []
        size = 0
        while self._queue and len(batch) < BATCH_JOBS:
            size += self._queue[0].cost
            if batch and size > BATCH_BYTES:
                break
            batch.append(self._queue.popleft())
        return batch

    async def _commit(self, batch: list[_Waiting[J, R]]) -> None:
        try:
            outcomes = await self._flush([waiting.job for waiting in batch])
        except Fault as fault:
            self._fail(batch, fault)
        except Exception as error:  # noqa: BLE001 - a bug in one job; whoever waits for it hears it
            if len(batch) == 1:
                self._fail(batch, error)
            else:
                for waiting in batch:
                    await self._commit([waiting])
        else:
            for waiting, outcome in zip(batch, outcomes, strict=True):
                self._queued_bytes -= waiting.cost
                if waiting.then is not None:
                    waiting.then(outcome)
                if not waiting.done.done():
                    waiting.done.set_result(outcome)

    def _fail(self, batch: list[_Waiting[J, R]], error: Exception) -> None:
        for waiting in batch:
            self._queued_bytes -= waiting.cost
            if not waiting.done.done():
                waiting.done.set_exception(error)
