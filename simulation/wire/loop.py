"""An asyncio loop whose time jumps: whoever sleeps for an hour wakes at once.

Time stands still while anything can run, in this thread or in one started by `run_in_executor`.
Whatever else has threads of its own is waited for by `wait_for_thread`, or not at all.
"""

from __future__ import annotations

import asyncio
import functools
import selectors
from collections.abc import Callable, Coroutine, Mapping
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
        super().__init__(_JumpingSelector(self))

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


class _JumpingSelector(selectors.BaseSelector):
    """The kernel's, but time passes at once where it would wait."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop
        self._real = selectors.DefaultSelector()

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is not None and timeout <= 0:
            return self._real.select(0)
        if self._loop.threads_at_work:
            return self._real.select(None)  # its end wakes us
        events = self._real.select(0)
        if not events:
            self._loop.pass_time(timeout)
        return events

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._real.register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._real.unregister(fileobj)

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._real.modify(fileobj, events, data)

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._real.get_map()

    def close(self) -> None:
        self._real.close()


def run(main: Coroutine[Any, Any, R]) -> R:
    """As asyncio.run, in virtual time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)
