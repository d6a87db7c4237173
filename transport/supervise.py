"""Tasks that somebody owns: each failure is logged and counted, none outlives its owner."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine

log = logging.getLogger(__name__)

AGAIN_FIRST_S = 1.0  # doubles with each failure, until the work has lasted AGAIN_LAST_S
AGAIN_LAST_S = 120.0


async def begun_again(work: Callable[[], Awaitable[None]], on_failure: Callable[[], None]) -> None:
    """Do `work` until it ends by itself; after each failure, logged, and a pause it begins anew."""
    loop = asyncio.get_running_loop()
    pause_s = AGAIN_FIRST_S
    while True:
        begun = loop.time()
        try:
            await work()
            return
        except Exception:  # whatever it was: the owner lives on, and so must the work
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise  # a task group's failure hides that we are to end
            on_failure()
            if loop.time() - begun >= AGAIN_LAST_S:
                pause_s = AGAIN_FIRST_S
            name = "work" if task is None else task.get_name()
            log.exception("%s failed, and begins anew in %s s", name, pause_s)
        await asyncio.sleep(pause_s)
        pause_s = min(2 * pause_s, AGAIN_LAST_S)


class Supervisor:
    """Owner of background tasks, for objects that are opened and closed rather than entered."""

    def __init__(self, on_crash: Callable[[str], None]) -> None:
        self._tasks: set[asyncio.Task[None]] = set()
        self._on_crash = on_crash

    def start(self, work: Coroutine[None, None, None], name: str) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._on_crash(task.get_name())
            log.error("task %s crashed", task.get_name(), exc_info=error)

    async def close(self, grace_s: float) -> None:
        """Give the tasks `grace_s` to end on their own, then cancel and wait for them."""
        tasks = self._tasks - {asyncio.current_task()}
        if not tasks:
            return
        _, late = await asyncio.wait(tasks, timeout=grace_s)
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late, timeout=grace_s)
