"""The variants of several seeds, each in a process of its own that tells how far it is."""

from __future__ import annotations

import multiprocessing
import queue
from collections.abc import Callable, Generator, Sequence
from functools import partial
from multiprocessing.queues import Queue
from typing import Final

from simulation.dht.figures import Result
from simulation.dht.plan import Plan
from simulation.dht.run import run
from simulation.many import workers

LOOK_S: Final = 0.2  # how often the processes' words are read

_words: Queue[tuple[int, float]] | None = None  # in a worker: to whom it tells how far it is


def run_all(
    plans: Sequence[Plan], jobs: int, tell: Callable[[int, float], None]
) -> Generator[Result, None, None]:
    """Results in the order of `plans`; `tell(place, part)` says how far that plan is, 0 to 1.

    Closing the iterator ends the workers at once.
    """
    if jobs == 1 or len(plans) == 1:
        for place, plan in enumerate(plans):
            yield run(plan, partial(tell, place))
        return
    words: Queue[tuple[int, float]] = multiprocessing.get_context("spawn").Queue()
    with workers(min(jobs, len(plans)), _hear, words) as pool:
        running = [pool.apply_async(_run, job) for job in enumerate(plans)]
        for result in running:
            while not result.ready():
                try:
                    tell(*words.get(timeout=LOOK_S))
                except queue.Empty:
                    continue
            yield result.get()


def _hear(words: Queue[tuple[int, float]]) -> None:
    global _words
    _words = words


def _run(place: int, plan: Plan) -> Result:
    words = _words
    assert words is not None
    return run(plan, lambda part: words.put((place, part)))
