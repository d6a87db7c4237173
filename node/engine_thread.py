"""The engine's thread: commands in, batched as they queue; answers and effects out, in order.

An fsync or a large MLS operation takes as long as it takes here, and no QUIC timer waits for it.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Final, Generic, Protocol, TypeVar, cast

from node.engine.commands import Command, Tick
from node.engine.values import Effect
from schemas.errors import Blame, Fault

R = TypeVar("R")

BATCH: Final = 256  # commands in one transaction: bounds how long the first one waits
WAITING: Final = 4096  # askers at once; more wait for a place
_SOONEST_TICK_S: Final = 0.01  # an engine that is due "now" again and again must not spin
_LATEST_TICK_S: Final = 60.0  # the wall clock may jump: look again

log = logging.getLogger(__name__)


class Batch(Protocol):
    """What `run` answers: in batch order, a Fault instance where a command was refused."""

    @property
    def answers(self) -> Sequence[object]: ...
    @property
    def effects(self) -> Sequence[Effect]: ...
    @property
    def wake_at(self) -> float | None: ...


class SynchronousEngine(Protocol):
    """What this thread needs of an engine."""

    def run(self, batch: Sequence[Command[Any]], now: float) -> Batch: ...


E = TypeVar("E", bound=SynchronousEngine)


@dataclass(slots=True)
class _Asked:
    command: Command[Any]
    answer: asyncio.Future[Any] | None  # None: a Tick that nobody waits for


class EngineThread(Generic[E]):
    """One thread that owns one engine.

    `open_engine` runs on that thread (the engine belongs to it from birth) and is left on it.
    `on_effect` is called on the loop's thread, in order, after the commit, before the answers of
    the same batch are seen. `clock` is Unix seconds.
    """

    def __init__(
        self,
        open_engine: Callable[[], AbstractContextManager[E]],
        on_effect: Callable[[Effect], None],
        *,
        on_crash: Callable[[Fault], None] = lambda fault: None,
        clock: Callable[[], float] = time.time,
        batch: int = BATCH,
    ) -> None:
        self._open = open_engine
        self._on_effect = on_effect
        self._on_crash = on_crash
        self._crash: Fault | None = None
        self._clock = clock
        self._limit = batch
        self._queue: queue.SimpleQueue[_Asked | None] = queue.SimpleQueue()
        self._places = asyncio.Semaphore(WAITING)
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._main, name="engine", daemon=True)
        self._opened: asyncio.Future[E] = self._loop.create_future()
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._stopping = False
        self._timer: asyncio.TimerHandle | None = None
        self.counters: Counter[str] = Counter()
        self.engine: E  # its constant parts (keys) may be read from anywhere

    async def start(self) -> None:
        """Raises what `open_engine` raises; the thread has then ended."""
        self._thread.start()
        try:
            self.engine = await asyncio.shield(self._opened)
        except BaseException:
            await self.stop()
            raise
        self._put_tick()

    async def ask(self, command: Command[R]) -> R:
        """The engine's answer, when what it changed is on disk.

        Raises the Fault that refuses the command; Fault `internal` for a bug, `engine-stopped`
        once `stop` was called. A cancelled asker's command still runs.
        """
        async with self._places:
            if self._stopping:
                raise self._ended_by()
            answer: asyncio.Future[Any] = self._loop.create_future()
            self._submit(_Asked(command, answer))
            return cast(R, await answer)

    async def stop(self) -> None:
        """Finish what is queued, leave the engine, end the thread. Idempotent."""
        if not self._stopping:
            self._stopping = True
            if self._timer is not None:
                self._timer.cancel()
            self._queue.put(None)
        if self._thread.ident is not None:
            await asyncio.shield(self._ended)
            self._thread.join()

    # --- on the engine's thread

    def _main(self) -> None:
        try:
            with self._open() as engine:
                self._tell(self._set_opened, engine)
                self._serve(engine)
        except BaseException as error:  # noqa: BLE001 - passed on to the loop, whatever it is
            # Everything goes to whoever waits; this thread has nobody above it.
            self._tell(self._fail, error)
        finally:
            self._tell(self._set_ended)

    def _serve(self, engine: E) -> None:
        going = True
        while going:
            asked, going = self._next_batch()
            if asked:
                self._run(engine, asked)

    def _next_batch(self) -> tuple[list[_Asked], bool]:
        """What is queued now (waiting for the first); False when it is the last."""
        asked: list[_Asked] = []
        entry = self._queue.get()
        while entry is not None:
            asked.append(entry)
            if len(asked) == self._limit:
                return asked, True
            try:
                entry = self._queue.get_nowait()
            except queue.Empty:
                return asked, True
        return asked, False

    def _run(self, engine: E, asked: list[_Asked]) -> None:
        try:
            result = engine.run([each.command for each in asked], self._clock())
        except Fault as fault:
            # The machine's fault (a full disk): nothing of the batch happened, for anybody.
            self._tell(self._refuse, asked, fault)
        except Exception as error:
            if len(asked) > 1:  # the batch was undone as a whole: find the one it failed on
                for each in asked:
                    self._run(engine, [each])
                return
            log.exception("the engine failed on %s", type(asked[0].command).__name__)
            self._tell(self._refuse, asked, _internal(asked[0].command, error))
        except BaseException as error:
            # A panic in Rust, or the interpreter ending: nothing of ours can be trusted after it.
            self._tell(self._refuse, asked, _crashed(error))
            raise
        else:
            self._tell(self._release, asked, result)

    def _tell(self, function: Callable[..., None], *args: Any) -> None:
        try:
            self._loop.call_soon_threadsafe(function, *args)
        except RuntimeError:  # the loop is closed: nobody is left to tell
            log.debug("the loop ended before the engine's thread")

    # --- on the loop's thread

    def _set_opened(self, engine: E) -> None:
        self._opened.set_result(engine)

    def _set_ended(self) -> None:
        while True:  # commands that came after a crash
            try:
                entry = self._queue.get_nowait()
            except queue.Empty:
                break
            if entry is not None:
                self._refuse([entry], self._ended_by())
        if not self._ended.done():
            self._ended.set_result(None)

    def _fail(self, error: BaseException) -> None:
        self._stopping = True
        if not self._opened.done():
            self._opened.set_exception(error)
        else:
            self.counters["engine-thread-crashed"] += 1
            log.critical("the engine's thread crashed", exc_info=error)
            self._crash = _crashed(error)
            self._on_crash(self._crash)

    def _ended_by(self) -> Fault:
        return _stopped() if self._crash is None else self._crash.with_traceback(None)

    def _release(self, asked: list[_Asked], result: Batch) -> None:
        for effect in result.effects:
            try:
                self._on_effect(effect)
            except Exception:
                self.counters["effect-crashed"] += 1
                log.exception("the effect %s was not handled", type(effect).__name__)
        for each, answer in zip(asked, result.answers, strict=True):
            if each.answer is None or each.answer.done():
                continue
            if isinstance(answer, Fault):
                each.answer.set_exception(answer)
            else:
                each.answer.set_result(answer)
        self._arm(result.wake_at)

    def _refuse(self, asked: list[_Asked], fault: Fault) -> None:
        self.counters[f"refused-{fault.code}"] += 1
        for each in asked:
            if each.answer is not None and not each.answer.done():
                each.answer.set_exception(fault)
            elif each.answer is None:
                self._arm(self._clock() + _LATEST_TICK_S)

    def _arm(self, wake_at: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if wake_at is not None and not self._stopping:
            wait = min(max(wake_at - self._clock(), _SOONEST_TICK_S), _LATEST_TICK_S)
            self._timer = self._loop.call_later(wait, self._put_tick)

    def _put_tick(self) -> None:
        if not self._stopping:
            self._submit(_Asked(Tick(), None))

    def _submit(self, entry: _Asked) -> None:
        self._queue.put(entry)


def _internal(command: Command[Any], error: Exception) -> Fault:
    fault = Fault(
        "internal",
        f"this program failed on {type(command).__name__}",
        blame=Blame.CALLER,
        hint="please report it, with the log",
    )
    fault.__cause__ = error
    return fault


def _crashed(error: BaseException) -> Fault:
    fault = Fault(
        "engine-crashed",
        f"the engine ended unexpectedly ({type(error).__name__})",
        blame=Blame.ENVIRONMENT,
        hint="start the node again: everything accepted is on disk; please report it, with the log",
    )
    fault.__cause__ = error
    return fault


def _stopped() -> Fault:
    return Fault("engine-stopped", "the node is stopping", blame=Blame.ENVIRONMENT)
