"""The engine without its thread: batches run on the loop, where virtual time waits for them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any, Final, Literal, Protocol, TypeVar, cast

from node.engine.commands import Command
from node.engine.engine import Engine
from node.engine_thread import Batch, EngineThread, SynchronousEngine
from schemas.errors import Blame, Fault

R = TypeVar("R")

COMMIT_S: Final = 0.001  # of virtual time: commands that come meanwhile are one batch

DIED: Final = "switched-off"

Doom = Literal["before", "after"]


class PowerCut(BaseException):
    """Ends a transaction and its engine, and is nobody's to handle."""


class Owner(Protocol):
    """Who is told what an engine does, at once."""

    def engine_opened(self, engine: Engine) -> None: ...
    def batch_done(self, batch: Sequence[Command[Any]], result: Batch) -> None: ...
    def batch_undone(self) -> None: ...
    def engine_died(self) -> None: ...


class _Watched:
    """An engine whose owner hears of each batch when it is on disk, before anybody else does."""

    def __init__(self, engine: SynchronousEngine, owner: Owner) -> None:
        self._engine = engine
        self._owner = owner

    def run(self, batch: Sequence[Command[Any]], now: float) -> Batch:
        try:
            result = self._engine.run(batch, now)
        except BaseException:
            self._owner.batch_undone()
            raise
        self._owner.batch_done(batch, result)
        return result


class InlineEngine(EngineThread[Engine]):
    """An EngineThread that falls asleep, or dies at a commit, when it is told to.

    Once dead, what was asked and not answered is refused, and nothing is released any more.
    """

    def __init__(self, *args: Any, owner: Owner, **options: Any) -> None:
        super().__init__(*args, **options)
        self._owner = owner
        self._context = ExitStack()
        self._turn_set = False
        self._asleep = False
        self._doom: Doom | None = None
        self.dead = False

    async def start(self) -> None:
        self.engine = self._context.enter_context(self._open())
        self._watched = cast(Engine, _Watched(self.engine, self._owner))
        self._owner.engine_opened(self.engine)
        self._set_opened(self.engine)
        self._put_tick()

    async def stop(self) -> None:
        if not self._stopping:
            self._stopping = True
            if self._timer is not None:
                self._timer.cancel()
            while not self.dead and not self._queue.empty():
                self._turn()
        self._set_ended()
        self._context.close()

    async def ask_now(self, command: Command[R], *, spared: bool = False) -> R:
        """As `ask`, in no time: behind all that is queued. `spared`: it does not die at this."""
        asking = asyncio.ensure_future(self.ask(command))
        await asyncio.sleep(0)
        doom = self._doom
        self._doom = None if spared else doom
        while not asking.done() and not self._queue.empty():
            self._turn()
            await asyncio.sleep(0)
        self._doom = doom
        return await asking

    def sleep(self) -> None:
        """Commands queue up until `wake`."""
        self._asleep = True

    def wake(self) -> None:
        self._asleep = False
        self._set_turn()
        self._put_tick()

    def doom(self, moment: Doom) -> None:
        """To die at the next commit: before it is on disk, or after, before anybody hears of it."""
        self._doom = moment

    def die(self) -> None:
        """Now, between two batches."""
        self.dead = self._stopping = True
        if self._timer is not None:
            self._timer.cancel()
        self._crash = Fault(DIED, "the machine was switched off", blame=Blame.ENVIRONMENT)
        self._owner.engine_died()
        self._on_crash(self._crash)
        self._set_ended()

    def _submit(self, entry: Any) -> None:
        super()._submit(entry)
        self._set_turn()

    def _set_turn(self) -> None:
        if not self._turn_set and not self._asleep:
            self._turn_set = True
            self._loop.call_later(COMMIT_S, self._on_turn)

    def _on_turn(self) -> None:
        self._turn_set = False
        if not self._asleep and not self.dead:
            self._turn()

    def _turn(self) -> None:
        if self._queue.empty():
            return
        asked, _ = self._next_batch()
        try:
            self._run(self._watched, asked)
        except PowerCut:
            self.die()
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # noqa: BLE001 - as on the thread: a panic in Rust, too
            self._fail(error)
        if not self.dead and not self._queue.empty():
            self._set_turn()

    def before_commit(self) -> None:
        """To be called there. Raises PowerCut when it is the one to die at."""
        if self._doom == "before":
            raise PowerCut

    def _tell(self, function: Callable[..., None], *args: Any) -> None:
        if self._doom == "after":
            self.die()
            self._refuse(args[0], self._ended_by())
        else:
            function(*args)
