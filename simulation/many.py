"""Many runs, on all cores: worker processes that each play one at a time."""

from __future__ import annotations

import logging
import multiprocessing
import signal
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.pool import Pool

from simulation.run import Plan, Result, run


def run_all(plans: Sequence[Plan], jobs: int) -> Generator[Result, None, None]:
    """Results as they come; with one job, in this process and in order.

    Closing the iterator (Ctrl-C closes it) ends the workers at once.
    """
    quieten()
    if jobs == 1 or len(plans) == 1:
        yield from map(run, plans)
        return
    with workers(min(jobs, len(plans))) as pool:
        yield from pool.imap_unordered(run, plans)


@contextmanager
def workers(
    count: int, prepare: Callable[..., None] | None = None, *arguments: object
) -> Iterator[Pool]:
    """Processes that end with the block. Each calls `prepare(*arguments)` first.

    Spawned, so that a worker's state is the same on every system, and the seed alone decides.
    """
    context = multiprocessing.get_context("spawn")
    with _own_interrupts():
        pool = context.Pool(count, initializer=_begin_worker, initargs=(prepare, *arguments))
    try:
        yield pool
        pool.close()
    finally:
        pool.terminate()
        pool.join()


def quieten() -> None:
    """Engines in trouble say so in their logs; here, trouble is what they are for."""
    logging.getLogger("node").setLevel(logging.CRITICAL + 1)


def _begin_worker(prepare: Callable[..., None] | None, *arguments: object) -> None:
    """Ctrl-C reaches the whole foreground group: who started us ends us."""
    quieten()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if prepare is not None:
        prepare(*arguments)


@contextmanager
def _own_interrupts() -> Iterator[None]:
    """Workers that start within are deaf to Ctrl-C from their first moment."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
