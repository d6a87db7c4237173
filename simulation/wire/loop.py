"""An asyncio loop whose time jumps: whoever sleeps for an hour wakes at once.

Time stands still while anything can run, in this thread or in one started by `run_in_executor`.
Whatever else has threads of its own is waited for by `wait_for_thread`, or not at all.
"""

from __future__ import annotations

import asyncio
import functools
import selectors
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, TypeVarTuple, runtime_checkable

if TYPE_CHECKING:
    from _typeshed import FileDescriptorLike

R = TypeVar("R")
Ts = TypeVarTuple("Ts")


@runtime_checkable
class SimulatedFile(Protocol):
    """Something to read from that the kernel does not know."""

    def watch(self, on_readable: Callable[[], None] | None) -> None: ...


class VirtualLoop(asyncio.SelectorEventLoop):
    """`time()` begins at 0 and moves when nothing is left to do until then."""

    def __init__(self) -> None:
        self._now = 0.0
        self._at_work = 0  # jobs in executors
        selector = _JumpingSelector()
        selector.loop = self
        super().__init__(selector)

    def time(self) -> float:
        return self._now

    def pass_time(self, seconds: float | None) -> None:
        """Raises RuntimeError when nothing would ever happen again."""
        if seconds is None:
            raise RuntimeError("everybody waits, and for nothing: no timer is left")
        self._now += seconds

    @property
    def threads_at_work(self) -> bool:
        return self._at_work > 0

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[*Ts], R], *args: *Ts
    ) -> asyncio.Future[R]:
        done = super().run_in_executor(executor, func, *args)
        self.wait_for_thread(done)
        return done

    def wait_for_thread(self, done: asyncio.Future[Any]) -> None:
        """Time stands still until it is done: a thread works for it that we did not start."""
        self._at_work += 1
        done.add_done_callback(self._worked)

    def _worked(self, _: asyncio.Future[Any]) -> None:
        self._at_work -= 1

    async def shutdown_default_executor(self, *how: Any) -> None:
        self._at_work += 1  # a thread of asyncio's own waits for the executor's
        try:
            await super().shutdown_default_executor(*how)
        finally:
            self._at_work -= 1

    def add_reader(
        self, fd: FileDescriptorLike, callback: Callable[[*Ts], Any], *args: *Ts
    ) -> None:
        if isinstance(fd, SimulatedFile):
            fd.watch(functools.partial(callback, *args))
        else:
            super().add_reader(fd, callback, *args)

    def remove_reader(self, fd: FileDescriptorLike) -> bool:
        if not isinstance(fd, SimulatedFile):
            return super().remove_reader(fd)
        fd.watch(None)
        return True


class _JumpingSelector(selectors.DefaultSelector):
    """Time passes at once where the kernel would wait."""

    loop: VirtualLoop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if self.loop.threads_at_work and (timeout is None or timeout > 0):
            return super().select(None)  # the end of the work wakes us
        events = super().select(0)
        if not events and (timeout is None or timeout > 0):
            self.loop.pass_time(timeout)
        return events


def run(main: Coroutine[Any, Any, R]) -> R:
    """As asyncio.run, in virtual time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)
