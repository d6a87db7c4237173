"""One thread that writes: it commits together whatever queued while its last commit was written.

No linger: a fixed wait before committing was measured to hurt at every load. A caller hears of its
job after COMMIT has returned, never before.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import apsw

from relay.refusals import TryLater
from relay.store.contract import Written
from schemas.errors import Blame, Fault
from schemas.limits import MIB
from storage.sqlite import blaming_the_disk, transaction

log = logging.getLogger(__name__)

T = TypeVar("T")

BATCH_JOBS = 1024  # bounds the wait of the first job in a batch
QUEUED_BYTES = 64 * MIB  # what waits for the disk is in memory; above this, callers are refused
BUSY_RETRY_MS = 250
JOB_COST = 512  # bytes of a job besides its payload


class _Job(Generic[T]):
    """A change, its outcome, and who waits for it."""

    __slots__ = ("_done", "_then", "_work", "cost", "failure", "outcome")

    def __init__(
        self,
        work: Callable[[apsw.Connection], T],
        then: Callable[[T], None] | None,
        done: asyncio.Future[T],
        cost: int,
    ) -> None:
        self._work = work
        self._then = then
        self._done = done
        self.cost = cost
        self.outcome: T | None = None
        self.failure: Exception | None = None

    def run(self, connection: apsw.Connection) -> None:
        self.failure = None
        try:
            self.outcome = self._work(connection)
        except Fault as fault:
            self.failure = fault

    def deliver(self) -> None:
        if self.failure is None and self._then is not None:
            self._then(self.outcome)  # type: ignore[arg-type] # run() has set it
        if self._done.done():
            return  # nobody waits any more; the change stays
        if self.failure is not None:
            self._done.set_exception(self.failure)
        else:
            self._done.set_result(self.outcome)  # type: ignore[arg-type] # run() has set it


class Writer:
    """Owns the only connection that writes. Made in the loop that its callers run in.

    On the writer's thread, `check` raises a Fault when what was committed will not last,
    `on_commit` hears of every transaction, and `on_undone` is called when one failed. `trouble` is
    why the machine refused the last transaction; None: it did not.
    """

    def __init__(
        self,
        connection: apsw.Connection,
        *,
        check: Callable[[], None] = lambda: None,
        on_commit: Callable[[Written], None] = lambda _: None,
        on_undone: Callable[[apsw.Connection], None] = lambda _: None,
    ) -> None:
        self._connection = connection
        self._check = check
        self._on_commit = on_commit
        self._on_undone = on_undone
        self._loop = asyncio.get_running_loop()
        self._queue: queue.SimpleQueue[_Job[Any] | None] = queue.SimpleQueue()
        self._queued_bytes = 0
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="relay-writer", daemon=True)
        self.commits = 0
        self.trouble: Fault | None = None
        self._thread.start()

    async def run(self, work: Callable[[apsw.Connection], T], *, cost: int = 0) -> T:
        """`submit`, for whoever has nothing else to do meanwhile."""
        return await self.submit(work, cost=cost)

    def submit(
        self,
        work: Callable[[apsw.Connection], T],
        *,
        cost: int = 0,
        then: Callable[[T], None] | None = None,
    ) -> asyncio.Future[T]:
        """Run `work` in a transaction shared with others; done once that is on disk.

        `then` gets the outcome at that moment, on the loop's thread, even if the caller has gone.

        `work` runs on the writer's thread and may run twice (the first time undone). When it
        raises a Fault, what it wrote before stays and the Fault comes out here; any other
        exception undoes its writes and nobody else's. `cost` is the bytes that it holds.

        Raises TryLater `busy`; Fault `disk-full` and the like, `store-closed`.
        """
        if self._closed:
            raise Fault("store-closed", "the store is closed", blame=Blame.CALLER)
        cost += JOB_COST
        if self._queued_bytes + cost > QUEUED_BYTES:
            raise TryLater(
                "busy", "the relay's disk is behind", retry_after_ms=BUSY_RETRY_MS, hint="try again"
            )
        self._queued_bytes += cost
        done: asyncio.Future[T] = self._loop.create_future()
        self._queue.put(_Job(work, then, done, cost))
        return done

    async def close(self) -> None:
        """Commit what is queued, end the thread, close the connection. Idempotent."""
        if not self._closed:
            self._closed = True
            self._queue.put(None)
        await asyncio.to_thread(self._thread.join)

    # On the writer's thread

    def _work(self) -> None:
        try:
            going_on = True
            while going_on:
                batch, going_on = self._next_batch()
                if batch:
                    self._commit(batch)
                    with contextlib.suppress(RuntimeError):  # the loop is gone, and all waiters
                        self._loop.call_soon_threadsafe(self._deliver, batch)
        finally:
            self._connection.close()

    def _next_batch(self) -> tuple[list[_Job[Any]], bool]:
        """What is queued now (waiting for the first); False when it is the last."""
        batch: list[_Job[Any]] = []
        job = self._queue.get()
        while job is not None:
            batch.append(job)
            if len(batch) == BATCH_JOBS:
                return batch, True
            try:
                job = self._queue.get_nowait()
            except queue.Empty:
                return batch, True
        return batch, False

    def _commit(self, batch: list[_Job[Any]]) -> None:
        try:
            with blaming_the_disk():
                begun = time.perf_counter()
                with transaction(self._connection):
                    for job in batch:
                        job.run(self._connection)
                    worked = time.perf_counter()
                self._check()
                ended = time.perf_counter()
            self.commits += 1
            self.trouble = None
            self._on_commit(Written(len(batch), worked - begun, ended - worked))
        except Fault as fault:  # the machine's; the jobs' own are caught in `run`
            self._undone()
            self.trouble = fault
            log.error("a batch of %d was not written: %s", len(batch), fault)
            for job in batch:
                job.failure = fault
        except Exception as error:  # noqa: BLE001 - a bug in one job; whoever waits for it hears it
            self._undone()
            if len(batch) == 1:
                batch[0].failure = error
            else:
                for job in batch:
                    self._commit([job])

    def _undone(self) -> None:
        try:
            self._on_undone(self._connection)
        except apsw.Error as error:
            log.error("the store cannot be read after a failed write: %s", error)

    # On the loop's thread

    def _deliver(self, batch: list[_Job[Any]]) -> None:
        for job in batch:
            self._queued_bytes -= job.cost
            job.deliver()
