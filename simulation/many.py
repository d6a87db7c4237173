"""Many seeds, on all cores: worker processes that each play one run at a time."""

from __future__ import annotations

import logging
import multiprocessing
import signal
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager

from simulation.run import Plan, Result, run


def run_all(plans: Sequence[Plan], jobs: int) -> Generator[Result, None, None]:
    """Results as they come; with one job, in this process and in order.

    Closing the iterator (Ctrl-C closes it) ends the workers at once.
    """
    quieten()
    if jobs == 1 or len(plans) == 1:
        yield from map(run, plans)
        return
    # Spawned, so that a worker's state is the same on every system, and the seed alone decides.
    context = multiprocessing.get_context("spawn")
    with _own_interrupts():
        pool = context.Pool(min(jobs, len(plans)), initializer=_begin_worker)
    try:
        yield from pool.imap_unordered(run, plans)
        pool.close()
    finally:
        pool.terminate()
        pool.join()


def quieten() -> None:
    """Engines in trouble say so in their logs; here, trouble is what they are for."""
    logging.getLogger("node").setLevel(logging.CRITICAL + 1)


def _begin_worker() -> None:
    """Ctrl-C reaches the whole foreground group: who started us ends us."""
    quieten()
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextmanager
def _own_interrupts() -> Iterator[None]:
    """Workers that start within are deaf to Ctrl-C from their first moment."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
